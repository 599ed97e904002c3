"""`heiwa drain status | plan | start | cancel`: the drain of a running gateway, from a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options import Config, Json, Set, Url, print_json, token_for
from gateway.drain.curve import curve
from gateway.errors import SettingsError, UnreachableError
from gateway.settings.load import load

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See, plan, begin or take back the drain of a running gateway.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Token = Annotated[str, token_for("the scope admin")]
Window = Annotated[float | None, typer.Option("--window", min=1, help="Seconds to spread the closes over.")]
Watching = Annotated[bool, typer.Option("--watch", help="Draw the curve until the drain is over.")]

_EVERY_S = 1.0
_OVER = ("drained", "exited", "serving", "registering")
# Then silence is no surprise.
_ENDING = ("terminating", "exited")


@app.command(epilog="Example: heiwa drain status --watch")
def status(
    url: Url = "",
    token: Token = "",
    watch: Annotated[bool, typer.Option("--watch", help="Draw the curve of all gateways until none drains.")] = False,
    gateway: Annotated[
        str,
        typer.Option(
            help="With --watch: any gateway, ws://…/ws; the one of the settings without it, or that of --url, alone."
        ),
    ] = "",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Where the gateway stands, and what its last drain did."""
    remote = _remote(url, token, config, setting)
    if watch and url and not gateway:
        # The settings speak of another gateway, which must neither be shown in its place nor get its token.
        typer.echo("the drain of this gateway alone; --gateway ws://…/ws shows that of all", err=True)
        _watch(remote, as_json)
    elif watch:
        _watch(_fleet(remote, gateway, token, config, setting), as_json)
    else:
        _show(remote.status(), as_json)


@app.command(epilog="Example: heiwa drain plan --tasks 8")
def plan(
    tasks: Annotated[int, typer.Option(min=1, max=64, help="Processes like this one that drain together.")] = 1,
    window: Window = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="Of a deploy by weights: linear:10%:6m, canary:5%:10m or blue-green, and the bake time after it, as "
            "linear:10%:6m:10m; a step of 0s, which ECS takes too, closes nothing; balancer: another load balancer "
            "takes all new connections."
        ),
    ] = None,
    connections: Annotated[
        int, typer.Option(min=0, help="With --strategy: websockets of each; 0: those of this one now.")
    ] = 0,
    url: Url = "",
    token: Token = "",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """The curve that a drain would take now: window, highest second of reconnects, overruns; or, step by step, what a
    deploy by weights would do."""
    remote = _remote(url, token, config, setting)
    if strategy is not None and window is not None:
        raise SettingsError("--window", "a strategy has its own times; give one of the two")
    found = remote.strategy(strategy, tasks, connections) if strategy is not None else remote.plan(window, tasks)
    if as_json:
        print_json(found)
        return
    if strategy is not None:
        from gateway.cli.strategy_text import describe as describe_strategy

        typer.echo(describe_strategy(found))
        return
    typer.echo(
        f"{found['connections']:,} connections over {found['window_s']:,.0f} s: {found['even_rate_per_s']:,.1f} a "
        f"second, in the highest second {found['peak_reconnects_per_s']:,} reconnects; {found['overrun']:,} closes "
        "above what the receivers take"
    )
    typer.echo(curve(found["curve"], _width()))


@app.command(epilog="Example: heiwa drain start --window 600 --watch")
def start(
    window: Window = None,
    url: Url = "",
    token: Token = "",
    watch: Watching = False,
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Send all websockets away, evenly. Only `cancel` takes it back."""
    remote = _remote(url, token, config, setting)
    _show(remote.start(window), as_json)
    if watch:
        _watch(remote, as_json)


@app.command(epilog="Example: heiwa drain cancel")
def cancel(url: Url = "", token: Token = "", config: Config = None, setting: Set = None, as_json: Json = False) -> None:
    """Let the rest stay."""
    _show(_remote(url, token, config, setting).cancel(), as_json)


def describe(found: dict[str, Any]) -> str:
    """A status in one line, and one more for a drain that goes on or is over; of a fleet, one a gateway."""
    if "fleet" in found:
        from gateway.cli.fleet_drain import describe as describe_fleet

        return describe_fleet(found["fleet"])
    peers = ", ".join(f"{count} {state}" for state, count in sorted(found["peers"].items()))
    signal = {None: "no load balancer", True: "load balancer seen", False: "LOAD BALANCER NOT SEEN"}[found["signal_up"]]
    lines = [f"{found['state']}: {found['connections']:,} connections; {signal}{f' ({peers})' if peers else ''}"]
    progress, receipt, shift = found["progress"], found["receipt"], found.get("shift")
    if shift is not None:
        lines.append(
            f"  the new revision gets {shift['weight']:.0%} of new connections ({shift['stage'] or 'no stage'}); "
            f"{shift['spent']:,} of {shift['budget']:,} closes spent"
        )
    if progress is not None:
        lines.append(
            f"  {progress['origin']}: {progress['sent_away']:,} sent away, {found['remaining']:,} to go in "
            f"{progress['seconds_left']:,.0f} s; {progress['rate_actual_per_s']:,} a second, "
            f"{progress['overrun']:,} above what the receivers take"
        )
    elif receipt is not None:
        lines.append(
            f"  last ({receipt['origin']}, {receipt['outcome']}): {receipt['sent_away']:,} in "
            f"{receipt['took_s']:,.0f} s, at most {receipt['highest_per_s']:,} a second, {receipt['leftover']:,} cut"
        )
    return "\n".join(lines)


def _watch(remote: Any, as_json: bool) -> None:
    """Once a second: a line that is drawn over on a terminal, plain lines elsewhere, or the status as JSON."""
    if as_json:
        for found in _statuses(remote):
            print_json(found.get("fleet", found))
        return
    live, closes, before, found = sys.stdout.isatty(), [], None, {}
    for found in _statuses(remote):
        # The receipt tells of the last interval of a drain that is over.
        last = found["progress"] or found["receipt"]
        sent = last["sent_away"] if last else 0
        closes.append(max(0, sent - before) if before is not None else 0)
        before = sent
        line = f"{found['state']:<13} {found['remaining']:>7,} to go {closes[-1]:>6,}/s "
        line += curve(closes[-(_width() - len(line) - 1) :], _width())
        typer.echo(f"\r\x1b[K{line}" if live else line.rstrip(), nl=not live)
    typer.echo("\n" if live else "", nl=False)
    typer.echo(describe(found) if found["state"] in _OVER else "the gateway has stopped")


def _statuses(remote: Any) -> Iterator[dict[str, Any]]:
    """Where it stands, each second until that is no drain any more, or it has stopped. Raises UnreachableError."""
    state = ""
    while state not in _OVER:
        if state:
            time.sleep(_EVERY_S)
        try:
            found = remote.status()
        except UnreachableError:
            if state not in _ENDING:
                raise
            return
        state = found["state"]
        yield found


def _remote(url: str, token: str, config: Path | None, flags: list[str] | None) -> Any:
    from gateway.cli.access import remote
    from gateway.cli.remote import RemoteDrain

    return RemoteDrain(remote(load(config, os.environ, flags or ()).settings, url, token, "default", "admin"))


def _fleet(remote: Any, gateway: str, token: str, config: Path | None, flags: list[str] | None) -> Any:
    from gateway.cli.device import local_url
    from gateway.cli.fleet_drain import FleetDrain
    from gateway.cli.watch import mint

    settings = load(config, os.environ, flags or ()).settings
    minted = (lambda: token) if token else mint(settings, "drain", "default")
    return FleetDrain(gateway or local_url(settings.listen), minted, remote.status, partial(typer.echo, err=True))


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(describe(found))


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns
