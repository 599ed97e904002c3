"""The command line. Commands import what they need when they run: a gateway must not carry what only others use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway import __version__
from gateway.cli.deploy import app as deploy
from gateway.cli.drain import app as drain
from gateway.cli.entry import PLAIN, run
from gateway.cli.init import app as init
from gateway.cli.job import app as job
from gateway.cli.options import Account, Config, Json, Set, Url, print_json, token_for
from gateway.cli.workflow import app as workflow
from gateway.settings.load import Loaded, flatten, load
from gateway.settings.model import SECRETS

_HIDDEN = "(not shown)"

app = typer.Typer(
    name="heiwa", help="A websocket gateway for device fleets that stays calm while it is deployed.", **PLAIN
)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 usage or settings, 3 unreachable, 4 schema."""
    run(app, "heiwa")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"heiwa {__version__}")
        raise typer.Exit


@app.callback()
def heiwa(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A websocket gateway for device fleets that stays calm while it is deployed."""


@app.command(epilog="Example: heiwa serve --set listen.public=0.0.0.0:8080 --set data.folder=/var/lib/heiwa")
def serve(
    config: Config = None,
    setting: Set = None,
    roles: Annotated[
        str | None,
        typer.Option(metavar="ROLE,…", help="What this process is: gateway, manager, rebalancer; all without it."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Record what arrives, without positions or names, for heiwa-loadtest run replay."
        ),
    ] = None,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Print the settings with their origins, and end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --show-settings: as JSON.")] = False,
) -> None:
    """Run the gateway until SIGTERM, SIGHUP, SIGQUIT or Ctrl-C."""
    loaded = _load(config, [*(setting or []), *([] if roles is None else [f"serve.roles={roles}"])])
    if show_settings:
        _print_settings(loaded, as_json)
        return
    from gateway.app.serving import serve as run

    raise typer.Exit(run(loaded, record))


@app.command(epilog='Example: heiwa token --sub phone-1 --scope "location:read device:read" --ttl 7d')
def token(
    sub: Annotated[str, typer.Option(help="Device or client id, at most 128 bytes.")],
    account: Annotated[str, typer.Option(help="The tenant.")] = "default",
    scope: Annotated[str, typer.Option(help="What it allows; several with spaces.")] = "location:write command:receive",
    device_class: Annotated[str, typer.Option("--class", help="Device class: esp-idf, arduino, browser, …")] = "",
    ttl: Annotated[str, typer.Option(help="How long it holds: 90s, 15m, 24h, 7d.")] = "24h",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Print a token (JWT) made with the local key."""
    import time

    from gateway.identity.minting import Minter, duration_s

    life_s = duration_s(ttl, "--ttl")
    minted = Minter(_load(config, setting).settings).mint(sub, account, scope, device_class, time.time(), life_s)
    if as_json:
        print_json({"token": minted.token, "expires_s": minted.expires_s, "claims": minted.claims})
    else:
        typer.echo(minted.token)


@app.command(epilog="Example: heiwa check --config /etc/heiwa.toml")
def check(config: Config = None, setting: Set = None, as_json: Json = False) -> None:
    """Read the settings and try what they name: files, folder, ports, keys, limits, load balancer."""
    from gateway.cli import check as checks
    from gateway.drain.outlook import BAD

    results = checks.run(_load(config, setting).settings)
    if as_json:
        print_json([result._asdict() for result in results])
    else:
        typer.echo(checks.table(results))
    if any(result.verdict == BAD for result in results):
        raise typer.Exit(1)


@app.command(
    epilog="Example: heiwa device --sub van-7 --track loadtest/tracks/around-visnjan-with-car.gpx --speed 10 --count 50"
)
def device(
    sub: Annotated[str, typer.Option(help="Device id, when it makes its own token.")] = "device-1",
    account: Account = "default",
    device_class: Annotated[str, typer.Option("--class", help="Device class: esp-idf, arduino, browser, …")] = "",
    given_token: Annotated[str, token_for("the scopes of a device")] = "",
    url: Annotated[str, typer.Option(help="The gateway; the one of the settings without it.")] = "",
    track: Annotated[Path | None, typer.Option(help="GPX file to follow; a synthetic walk without it.")] = None,
    speed: Annotated[float, typer.Option(min=0, help="Times real time; 0: no pauses.")] = 1.0,
    original_times: Annotated[
        bool, typer.Option("--original-times", help="Send recorded times as they are; the server refuses old ones.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Events until it ends; a track starts over.")] = None,
    duration: Annotated[str, typer.Option(help="End after this time: 90s, 15m, 24h.")] = "",
    token_life: Annotated[
        str, typer.Option("--token-ttl", help="Life of the tokens it makes; renewed before they end.")
    ] = "1h",  # noqa: S107 - a duration
    answers: Annotated[bool, typer.Option("--answers", help="Carry out commands: switch, report, slow, fail.")] = False,
    config: Config = None,
    setting: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as one JSON object.")] = False,
) -> None:
    """Simulate one device: send a track or a walk, keep what was not acknowledged, and come back as told.

    Keeps at most 10,000 events, in memory only. Exit code 1 when an event was not acknowledged.
    """
    from gateway.cli.device import Options, local_url, run
    from gateway.identity.minting import Minter, duration_s

    settings = _load(config, setting).settings
    options = Options(
        sub=sub,
        account=account,
        device_class=device_class,
        token=given_token,
        url=url or local_url(settings.listen),
        track=track,
        speed=speed,
        original_times=original_times,
        count=count,
        duration_s=duration_s(duration, "--duration") if duration else None,
        token_life_s=duration_s(token_life, "--token-ttl"),
        answers=answers,
        json=as_json,
    )
    raise typer.Exit(run(options, lambda: Minter(settings)))


@app.command(epilog="Example: heiwa command lamp-1 switch '{\"on\": true}'")
def command(
    device: Annotated[str, typer.Argument(help="The device.")],
    name: Annotated[str, typer.Argument(help="What it is to do.")],
    args: Annotated[str, typer.Argument(help="With what: JSON.")] = "null",
    account: Account = "default",
    deadline: Annotated[str, typer.Option(help="How long to wait for the result, at most 60s.")] = "10s",
    idempotent: Annotated[
        bool,
        typer.Option("--idempotent", help="Twice does no harm: send it again when the device moves before the result."),
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same again within the deadline is carried out once.")
    ] = None,
    url: Url = "",
    given_token: Annotated[str, token_for("the scope command:send")] = "",
    config: Config = None,
    setting: Set = None,
) -> None:
    """Send a command to a device and print its result as JSON. Exit code 1 when there is none."""
    from gateway.cli.command import send

    what = (_load(config, setting).settings, device, name, args, account, deadline, url, given_token)
    typer.echo(send(*what, idempotent=idempotent, key=key))


@app.command(epilog="Example: heiwa watch device:dog-1")
def watch(
    channel: Annotated[str, typer.Argument(help="What to watch: device:ID, workflow:RUN, workflows, drain.")],
    account: Account = "default",
    count: Annotated[int | None, typer.Option(min=1, help="Events until it ends.")] = None,
    url: Annotated[str, typer.Option(help="The gateway, ws://…/ws; the one of the settings without it.")] = "",
    given_token: Annotated[str, token_for("the channel's scope")] = "",
    config: Config = None,
    setting: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Watch a channel live, one line an event, until Ctrl-C. Comes back by itself when the gateway sends it away."""
    from gateway.cli.watch import run

    run(_load(config, setting).settings, channel, account, url, given_token, count, as_json)


@app.command(epilog="Example: heiwa why lamp-1")
def why(
    device: Annotated[str, typer.Argument(help="The device.")],
    account: Account = "default",
    url: Url = "",
    given_token: Annotated[str, token_for("the scope device:read")] = "",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Say in words where a device is and why its last connection ended; with --json all that is remembered."""
    from gateway.cli.why import ask

    found = ask(_load(config, setting).settings, device, account, url, given_token)
    if as_json:
        print_json(found)
    else:
        typer.echo(found["why"])
        if found["incomplete"]:
            typer.echo(f"Incomplete: {found['incomplete']}", err=True)


@app.command(epilog="Example: heiwa redrive  or  heiwa redrive AmazonOpenSearchService_failed/2026/11/29/10/*")
def redrive(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Failure objects of Firehose, or files of dead letters; without any, our dead letters."),
    ] = None,
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Send dead letters and Firehose's failures to the index again; harmless when repeated.

    Exit code 1 when something was not taken: it is a dead letter again, or stays in the file that was named.
    """
    import asyncio

    from gateway.cli.redrive import redrive as run

    done = asyncio.run(run(_load(config, setting).settings, files or []))
    if as_json:
        print_json(done)
    else:
        typer.echo(
            f"{done.stored} stored, {done.dead} refused for good, {done.later} not taken now, "
            f"{done.unreadable} lines without an event"
        )
        if done.why:
            typer.echo(f"not stored: {done.why}", err=True)
    if done.dead or done.later or done.unreadable:
        raise typer.Exit(1)


app.add_typer(deploy, name="deploy")
app.add_typer(drain, name="drain")
app.add_typer(init, name="init")
app.add_typer(job, name="job")
app.add_typer(workflow, name="workflow")


def _load(config: Path | None, flags: list[str] | None) -> Loaded:
    return load(config, os.environ, flags or ())


def _print_settings(loaded: Loaded, as_json: bool) -> None:
    rows = [
        (key, _HIDDEN if value and key in SECRETS else value, loaded.origins.get(key, "default"))
        for key, value in flatten(loaded.settings)
    ]
    if as_json:
        print_json({key: {"value": value, "origin": origin} for key, value, origin in rows})
        return
    width = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        typer.echo(f"{key:<{width}} = {_show(value):<24} # {origin}")


def _show(value: object) -> str:
    """A value as it would be written in heiwa.toml."""
    import msgspec

    return msgspec.json.encode(value).decode()
