"""`heiwa-loadtest run`: from the options of the command line to a run, and what is printed of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gateway.cli.options import print_json
from gateway.errors import HeiwaError, SettingsError
from loadtest.cli import arguments
from loadtest.cli.arguments import (
    AsJson,
    Compare,
    DeregistrationDelay,
    DeviceCount,
    Duration,
    GatewayCount,
    KeepData,
    Out,
    RecordingPath,
    ScenarioName,
    SearchUrls,
    SecretFile,
    Seed,
    SetKey,
    Share,
    Speed,
    StartAt,
    TargetUrls,
)

if TYPE_CHECKING:
    from loadtest.fleet.replay import RecordingSummary
    from loadtest.run.folder import RunOutcome
    from loadtest.run.options import RunOptions
    from loadtest.scenario.scenario import Scenario

THRESHOLDS_MISSED = 99
PEAKS = "peaks"
PEAKS_DESCRIPTION = (
    "A day's two peaks into a real OpenSearch that refuses, by each way in use; a table of what is lost."
)


def run(
    scenario: ScenarioName,
    file: RecordingPath = None,
    devices: DeviceCount = None,
    duration: Duration = "",
    speed: Speed = None,
    delay: DeregistrationDelay = "",
    compare: Compare = False,
    gateways: GatewayCount = 0,
    target: TargetUrls = None,
    secret_file: SecretFile = None,
    search: SearchUrls = None,
    share: Share = "1/1",
    start_at: StartAt = "",
    seed: Seed = None,
    setting: SetKey = None,
    out: Out = None,
    keep_data: KeepData = False,
    as_json: AsJson = False,
) -> None:
    """Run a scenario; exit code 99 when a threshold is missed.

    `peaks` compares ways into OpenSearch; of the options it takes --duration and --json.
    """
    if scenario == PEAKS:
        raise typer.Exit(_peaks(duration, as_json))
    from loadtest.processes import slices
    from loadtest.run.options import RunOptions
    from loadtest.scenario import parsing

    overrides = parsing.read_overrides(setting or ())
    overrides |= {"fleet.devices": devices} if devices else {}
    overrides |= {"run.duration_s": arguments.seconds(duration)} if duration else {}
    overrides |= {"replay.file": str(file)} if file else {}
    if parsing.has_deploy(scenario, overrides):
        overrides |= _deploy_overrides(gateways, delay, speed, bool(target))
    else:
        overrides |= _replay_overrides(delay, speed, compare)
    name, loaded = parsing.load(scenario, overrides)
    recorded, loaded = _with_recording(name, loaded, devices, bool(duration), speed)
    if gateways and target:
        raise SettingsError("--gateways", "gateways are started here or, with --target, run elsewhere; give one")
    if share != "1/1" and seed is None:
        raise SettingsError("--share", "several machines need the same --seed and the same --start-at")
    options = RunOptions(
        name=name,
        scenario=loaded,
        out=out or Path("out") / f"{time.strftime('%Y-%m-%dT%H%M%S')}-{name}",
        seed=int.from_bytes(os.urandom(4)) if seed is None else seed,
        share=slices.share(share),
        gateways=gateways,
        targets=target or (),
        operations=[address.rstrip("/") for address in search or ()],
        secret=arguments.secret(secret_file, needed=bool(target)),
        start_at_ms=arguments.moment_ms(start_at),
        keep_data=keep_data,
        recorded=recorded,
    )
    outcome = _compared(options, as_json) if compare else _told(options, as_json)
    if outcome.result.stopped_by:
        raise typer.Exit(1)
    if outcome.result.missed:
        raise typer.Exit(THRESHOLDS_MISSED)


def _peaks(duration: str, as_json: bool) -> int:
    from loadtest.opensearch import peaks

    return peaks.main(arguments.seconds(duration) if duration else peaks.DAY_S, peaks.PEAK_PER_S, as_json)


def _deploy_overrides(gateways: int, delay: str, speed: float | None, elsewhere: bool) -> dict[str, object]:
    if elsewhere:
        raise SettingsError("--target", "a deploy starts and stops its gateways itself; they cannot run elsewhere")
    overrides: dict[str, object] = {"deploy.speed": speed} if speed is not None else {}
    overrides |= {"deploy.delay_s": arguments.seconds(delay, "--delay")} if delay else {}
    return overrides | ({"deploy.old": gateways, "deploy.new": gateways} if gateways else {})


def _replay_overrides(delay: str, speed: float | None, compare: bool) -> dict[str, object]:
    if delay or compare:
        raise SettingsError("--delay" if delay else "--compare", "the scenario has no section [deploy]")
    return {"replay.speed": speed} if speed is not None else {}


def _with_recording(
    name: str, scenario: Scenario, devices: int | None, cut: bool, speed: float | None
) -> tuple[RecordingSummary | None, Scenario]:
    """The recording that the scenario plays, and the scenario with its devices and, unless `cut`, its duration."""
    from loadtest.fleet import replay

    if not scenario.replay.file:
        if name == "replay" or (speed is not None and scenario.deploy is None):
            raise SettingsError("FILE", "name the recording: heiwa-loadtest run replay FILE --speed 10")
        return None, scenario
    if devices:
        raise SettingsError("--devices", "the recording says which devices there are")
    recorded = replay.scan(Path(scenario.replay.file))
    return recorded, replay.fit(scenario, recorded, scenario.run.duration_s if cut else None)


def _told(options: RunOptions, as_json: bool) -> RunOutcome:
    outcome = _conduct(options, as_json)
    _tell(outcome, options.out, as_json)
    return outcome


def _compared(options: RunOptions, as_json: bool) -> RunOutcome:
    """Run the deploy without the drain (by weights: without following them) and then with it, both in one report.

    Returns the second outcome.
    """
    from msgspec.structs import replace

    from loadtest.run.compare import write

    scenario, whole = options.scenario, options.out
    assert scenario.deploy is not None
    by_weights = scenario.deploy.strategy != "rolling"
    other = replace(scenario.deploy, follow=False) if by_weights else replace(scenario.deploy, drain=False)
    without = replace(scenario, deploy=other, thresholds=[])
    before = replace(options, scenario=without, out=whole / "before")
    after = replace(options, out=whole / "after")
    if _conduct(before, as_json).result.stopped_by:
        raise HeiwaError("ended early")
    outcome = _told(after, as_json)
    report_file = write([before.out, after.out], whole / "comparison.html")
    print(f"Before and after: {report_file}", file=sys.stderr if as_json else sys.stdout)
    return outcome


def _conduct(options: RunOptions, as_json: bool) -> RunOutcome:
    from loadtest.run.conductor import Conductor
    from loadtest.run.live import LiveView, PlainView, QuietView

    async def conduct() -> RunOutcome:
        stop, at_once = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: (at_once if stop.is_set() else stop).set())
        with QuietView() if as_json else LiveView() if sys.stdout.isatty() else PlainView() as view:
            return await Conductor(options, view).run(stop, at_once)

    return asyncio.run(conduct())


def _tell(outcome: RunOutcome, folder: Path, as_json: bool) -> None:
    from loadtest.run.folder import REPORT
    from loadtest.scenario import thresholds

    result = outcome.result
    if as_json:
        print_json(result)
        return
    for verdict in result.verdicts:
        typer.echo(thresholds.line(verdict))
    if result.stopped_by:
        typer.echo(f"Ended early: {result.stopped_by}. The report covers the time until then.")
    typer.echo(f"Report: {folder / REPORT}")
