"""`heiwa deploy guard`: waits at the pause hooks of a deployment, and continues it or rolls it back."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import Config, Json, Set, print_json
from gateway.settings.load import load

if TYPE_CHECKING:
    from gateway.drain.guard import Decision, Pause

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Guard a deployment of Amazon ECS.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def deploy() -> None:
    """Guard a deployment of Amazon ECS."""


@app.command(epilog="Example: heiwa deploy guard --cluster production --service gateway --min-devices 200 --for 10m")
def guard(
    service: Annotated[str, typer.Option(help="The ECS service: its name or ARN.")],
    cluster: Annotated[str, typer.Option(help="Its cluster; of a guard that is a task itself, the task's.")] = "",
    min_devices: Annotated[
        int, typer.Option("--min-devices", min=1, help="Devices that must be on the new revision: a number, no share.")
    ] = 100,
    lasting: Annotated[str, typer.Option("--for", help="How long they must be on it: whole minutes, as 5m.")] = "5m",
    ratio: Annotated[
        float, typer.Option(min=1, help="How many times the figures of the old revision are taken for as good.")
    ] = 1.5,
    timeout: Annotated[str, typer.Option(help="Give up after this time, and leave the hook alone.")] = "4h",
    metrics_service: Annotated[
        str, typer.Option("--metrics-service", help="telemetry.service of the gateways; the one of the settings.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what it would do at each hook, and change nothing.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Guard each deployment to come, until SIGTERM.")] = False,
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Wait at each PAUSE hook until enough devices are on the new revision and its figures are near those of the old
    one; then CONTINUE, or ROLLBACK with the reason. Exit code 1 when the deployment was rolled back, or with --dry-run
    as soon as it would be.

    Run twice by mistake it does no harm: what is continued once is not waiting any more.
    """
    import asyncio

    from gateway.drain.guard import Bounds
    from gateway.errors import HeiwaError, SettingsError
    from gateway.identity.minting import duration_s
    from gateway.telemetry.output import logging_to_stderr

    settings = load(config, os.environ, setting or ()).settings
    minutes = duration_s(lasting, "--for") / 60
    if minutes != int(minutes) or not 1 <= minutes <= 60:
        raise SettingsError("--for", f"{lasting} is not 1 to 60 whole minutes: a task tells its figures once a minute")
    bounds = Bounds(min_devices=min_devices, minutes=int(minutes), ratio=ratio)

    def told(pause: Pause, decision: Decision) -> None:
        if as_json:
            print_json({"deployment": pause.deployment, "action": decision.action.value, "reason": decision.reason})
        else:
            typer.echo(f"{decision.action.value}: {decision.reason}")

    async def run() -> bool:
        from gateway.adapters.aws.guarded import EcsGuarded
        from gateway.adapters.clock import SystemClock
        from gateway.drain.guarding import Guard

        where = cluster or await _own_cluster()
        source = EcsGuarded(os.environ, where, service, metrics_service or settings.telemetry.service)
        watch = Guard(
            source,
            SystemClock(),
            bounds,
            told,
            dry_run=dry_run,
            keep=keep,
            timeout_s=duration_s(timeout, "--timeout"),
        )
        watching = asyncio.create_task(watch.run(), name="guard")
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, watching.cancel)
        # The image starts its program with both blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            return await watching
        except asyncio.CancelledError:
            if not keep:
                # A pipeline that is stopped must not take the deployment for a good one.
                raise HeiwaError("stopped while the deployment goes on; its hooks were left alone") from None
            return True
        finally:
            await source.close()

    with logging_to_stderr("info", "auto"):
        if not asyncio.run(run()):
            raise typer.Exit(1)


async def _own_cluster() -> str:
    from gateway.adapters.aws import ecs_metadata

    return (await ecs_metadata.read(os.environ)).cluster if ecs_metadata.present(os.environ) else "default"
