"""The command `heiwa-loadtest`: run a scenario, list them, make reports."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway import __version__
from gateway.errors import HeiwaError, SettingsError
from loadtest import bounded

if TYPE_CHECKING:
    from loadtest.run.folder import RunOutcome
    from loadtest.run.options import RunOptions
    from loadtest.scenario.scenario import Scenario

THRESHOLDS_MISSED = 99
MAX_AHEAD_S = 30 * 86_400
MIN_SECRET_BYTES = 32

app = typer.Typer(
    name="heiwa-loadtest",
    help="Real websockets by the hundred thousand against a gateway, and numbers one can trust.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed or stopped, 2 usage, 3 unreachable, 99 thresholds missed."""
    try:
        code = app(prog_name="heiwa-loadtest")
    except HeiwaError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ModuleNotFoundError as error:
        _complain(f"{error.name} is missing: pip install 'heiwa-gateway[loadtest]'; in a checkout: make loadtest")
        sys.exit(2)
    except Exception as error:
        if os.environ.get("HEIWA_TRACEBACK"):
            raise
        _complain(f"unexpected {type(error).__name__}: {error} (HEIWA_TRACEBACK=1 shows where)")
        sys.exit(1)
    sys.exit(code)


def _complain(text: str) -> None:
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    print(f"heiwa-loadtest: {shown}", file=sys.stderr)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"heiwa-loadtest {__version__}")
        raise typer.Exit


@app.callback()
def loadtest(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Real websockets by the hundred thousand against a gateway, and numbers one can trust."""


@app.command(epilog="Example: heiwa-loadtest run steady --devices 200000 --for 5m")
def run(
    scenario: Annotated[str, typer.Argument(help="The name of one that ships, or a TOML file of your own.")],
    file: Annotated[
        Path | None, typer.Argument(help="With replay: a recording that heiwa serve --record made.")
    ] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Devices in all.")] = None,
    duration: Annotated[str, typer.Option("--for", help="How long to measure: 90s, 5m, 1h.")] = "",
    speed: Annotated[
        float | None, typer.Option(help="Of a recording: so many times as fast as it was. Of a deploy: as real ones.")
    ] = None,
    delay: Annotated[str, typer.Option(help="Of a deploy: the deregistration delay, such as 600s or 10m.")] = "",
    compare: Annotated[
        bool, typer.Option("--compare", help="Of a deploy: run it without the drain and with it; one report.")
    ] = False,
    gateways: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            help="Gateways to start on this machine; 0: enough for the devices. Of a deploy: so many replace so many.",
        ),
    ] = 0,
    target: Annotated[
        list[str] | None, typer.Option(help="A gateway that runs already, wss://…/ws; repeatable.")
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="With --target: the secret its tokens are checked with (auth.secret_file).")
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(help="With --target: an operations listener, http://…, to judge loss with; repeatable."),
    ] = None,
    share: Annotated[
        str, typer.Option(help="The part of this machine when several run together, such as 3/8.")
    ] = "1/1",
    start_at: Annotated[
        str,
        typer.Option(help="When to connect, the same on all machines: 2026-01-31T12:00:00Z, or seconds since 1970."),
    ] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same moments.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="A key of the scenario; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; out/TIME-NAME without it.")] = None,
    keep_data: Annotated[bool, typer.Option("--keep-data", help="Keep the data folders of the gateways.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object.")] = False,
) -> None:
    """Run a scenario; exit code 99 when a threshold is missed."""
    from loadtest.fleet import replay
    from loadtest.processes import plan
    from loadtest.run.options import RunOptions

    settings = list(setting or ())
    settings += [f"fleet.devices={devices}"] if devices else []
    settings += [f"run.duration_s={_seconds(duration)}"] if duration else []
    settings += [f"replay.file={json.dumps(str(file), ensure_ascii=False)}"] if file else []
    settings += _of_deploy(_is_deploy(scenario, settings), gateways, delay, speed, bool(target), compare)
    name, loaded = _scenario(scenario, settings)
    recorded = None
    if loaded.replay.file:
        if devices:
            raise SettingsError("--devices", "the recording says which devices there are")
        recorded = replay.scan(Path(loaded.replay.file))
        loaded = replay.fit(loaded, recorded, loaded.run.duration_s if duration else None)
    elif name == "replay" or (speed is not None and loaded.deploy is None):
        raise SettingsError("FILE", "name the recording: heiwa-loadtest run replay FILE --speed 10")
    if gateways and target:
        raise SettingsError("--gateways", "gateways are started here or, with --target, run elsewhere; give one")
    if share != "1/1" and seed is None:
        raise SettingsError("--share", "several machines need the same --seed and the same --start-at")
    options = RunOptions(
        name=name,
        scenario=loaded,
        out=out or Path("out") / f"{time.strftime('%Y-%m-%dT%H%M%S')}-{name}",
        seed=int.from_bytes(os.urandom(4)) if seed is None else seed,
        share=plan.share(share),
        gateways=gateways,
        targets=target or (),
        operations=[address.rstrip("/") for address in search or ()],
        secret=_secret(secret_file, bool(target)),
        start_at_ms=_moment_ms(start_at),
        keep_data=keep_data,
        recorded=recorded,
    )
    outcome = _compared(options, as_json) if compare else _told(options, as_json)
    if outcome.result.stopped_by:
        raise typer.Exit(1)
    if outcome.result.missed:
        raise typer.Exit(THRESHOLDS_MISSED)


@app.command("list", epilog="Example: heiwa-loadtest list --json")
def list_scenarios(as_json: Json = False) -> None:
    """Print the scenarios that ship."""
    from loadtest.scenario import shipped

    found = {name: _scenario(name, [])[1].description for name in shipped.names()}
    if as_json:
        _print_json([{"name": name, "description": text} for name, text in found.items()])
        return
    width = max(map(len, found))
    for name, text in found.items():
        typer.echo(f"{name:<{width}}  {text}")


@app.command(epilog="Example: heiwa-loadtest report out/before out/after")
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of one run's shares; or of two runs, to see them side by side.")
    ],
    out: Annotated[Path | None, typer.Option(help="The file to write; report.html in the first folder.")] = None,
) -> None:
    """Make the HTML report again, of one run, its merged shares, or two runs side by side."""
    from loadtest.run.compare import write

    typer.echo(write(folders, out))


@app.command(epilog="Example: heiwa-loadtest schema > scenario.schema.json")
def schema() -> None:
    """Print the JSON Schema of a scenario file."""
    from loadtest.scenario.scenario import json_schema

    _print_json(json_schema())


def _scenario(given: str, overrides: list[str]) -> tuple[str, Scenario]:
    from loadtest.scenario import shipped
    from loadtest.scenario.scenario import parse

    path = shipped.path_of(given)
    return path.stem, parse(shipped.read(path), path.name, overrides)


def _is_deploy(given: str, overrides: list[str]) -> bool:
    """Whether it has a section [deploy]."""
    from loadtest.scenario import shipped

    if any(override.startswith("deploy.") for override in overrides):
        return True
    path = shipped.path_of(given)
    return "deploy" in shipped.whole(shipped.read(path), path.name)


def _seconds(text: str, option: str = "--for") -> float:
    from gateway.identity.minting import duration_s

    return duration_s(text, option)


def _moment_ms(text: str) -> int:
    """0: at once."""
    from datetime import datetime

    if not text:
        return 0
    try:
        moment_s = (
            float(text) if text.replace(".", "", 1).isdigit() else datetime.fromisoformat(text.upper()).timestamp()
        )
    except ValueError as error:
        raise SettingsError("--start-at", f"{text!r} is not a time; write 2026-01-31T12:00:00Z") from error
    if moment_s > time.time() + MAX_AHEAD_S:
        raise SettingsError("--start-at", f"{text[:40]} is more than {MAX_AHEAD_S // 86_400} days ahead")
    if moment_s < time.time():
        raise SettingsError("--start-at", f"{text} is past; machines need time to start their processes, give a minute")
    return int(moment_s * 1000)


def _secret(path: Path | None, needed: bool) -> str:
    if path is None:
        if needed:
            raise SettingsError(
                "--secret-file",
                "devices need tokens; name the file with the secret that the target checks them with (its "
                "auth.secret_file, or `key` in its data folder)",
            )
        return ""
    try:
        secret = bounded.text(path).strip()
    except (OSError, ValueError) as error:
        raise SettingsError("--secret-file", f"cannot read {path}: {error}") from error
    if len(secret) < MIN_SECRET_BYTES:
        raise SettingsError("--secret-file", f"{len(secret)} bytes; at least {MIN_SECRET_BYTES} are needed")
    return secret


def _of_deploy(
    is_one: bool, gateways: int, delay: str, speed: float | None, elsewhere: bool, compare: bool
) -> list[str]:
    """What the options of a deploy set. Raises SettingsError for one without a deploy."""
    if not is_one:
        if delay or compare:
            raise SettingsError("--delay" if delay else "--compare", "the scenario has no section [deploy]")
        return [f"replay.speed={speed}"] if speed is not None else []
    if elsewhere:
        raise SettingsError("--target", "a deploy starts and stops its gateways itself; they cannot run elsewhere")
    settings = [f"deploy.speed={speed}"] if speed is not None else []
    settings += [f"deploy.delay_s={_seconds(delay, '--delay')}"] if delay else []
    return settings + ([f"deploy.old={gateways}", f"deploy.new={gateways}"] if gateways else [])


def _told(options: RunOptions, as_json: bool) -> RunOutcome:
    outcome = _conduct(options, as_json)
    _tell(outcome, options.out, as_json)
    return outcome


def _compared(options: RunOptions, as_json: bool) -> RunOutcome:
    """The same deploy without the drain and with it, and both in one report; returns the latter's outcome."""
    from msgspec.structs import replace

    from loadtest.run.compare import write

    scenario, whole = options.scenario, options.out
    assert scenario.deploy is not None
    without = replace(scenario, deploy=replace(scenario.deploy, drain=False), thresholds=[])
    before = replace(options, scenario=without, out=whole / "before")
    after = replace(options, out=whole / "after")
    if not _conduct(before, as_json).result.stopped_by:
        outcome = _told(after, as_json)
        report_file = write([before.out, after.out], whole / "comparison.html")
        print(f"Before and after: {report_file}", file=sys.stderr if as_json else sys.stdout)
        return outcome
    raise HeiwaError("ended early")


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
    import msgspec

    from loadtest.run.folder import REPORT
    from loadtest.scenario import thresholds

    result = outcome.result
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
        return
    for verdict in result.verdicts:
        typer.echo(thresholds.line(verdict))
    if result.stopped_by:
        typer.echo(f"Ended early: {result.stopped_by}. The report is of what was.")
    typer.echo(f"Report: {folder / REPORT}")


def _print_json(value: object) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


if __name__ == "__main__":
    main()
