"""`heiwa serve`: one process with its roles, what signals do to it, and what a person is told at its start."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from gateway import __version__
from gateway.app import early_signals
from gateway.app.gateway import Gateway
from gateway.app.managing import Managing
from gateway.app.roles import roles_of
from gateway.errors import TaskFailedError
from gateway.settings.load import Loaded
from gateway.settings.model import Settings
from gateway.telemetry.log import Log
from gateway.telemetry.output import logging_to_stderr

log = Log("app")

Process = Gateway | Managing


def serve(loaded: Loaded, record: Path | None = None) -> int:
    """Run a gateway until a signal ends it; returns the exit code. Raises HeiwaError when it cannot start."""
    with (
        logging_to_stderr(loaded.settings.log.level, loaded.settings.log.format),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_serve(loaded.settings, record))


async def _serve(settings: Settings, record: Path | None) -> int:
    began_s = time.perf_counter()
    roles = roles_of(settings)
    gateway = Gateway(settings, record, roles) if roles.gateway else Managing(settings, roles)
    stop, at_once = asyncio.Event(), asyncio.Event()

    def on_signal(number: int) -> None:
        if not stop.is_set():
            stop.set()
        elif number in early_signals.HURRYING:
            at_once.set()

    loop = asyncio.get_running_loop()
    for number in early_signals.ENDING:
        if early_signals.heeded(number):
            loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(early_signals.DRAINING, gateway.drain_ordered)
    for received in early_signals.received():
        on_signal(received)
    await gateway.start()
    _announce(gateway, time.perf_counter() - began_s)
    try:
        await gateway.run(stop)
    except TaskFailedError as error:
        log.error("failed", exc_info=error.__cause__ or error, message=str(error))  # noqa: TRY400
        await _unless(at_once, gateway.close(), gateway)
        return error.exit_code
    log.info("stopping", connections=gateway.connections)
    await _unless(at_once, gateway.stop(), gateway)
    log.info("stopped")
    return 0


async def _unless(at_once: asyncio.Event, stopping: Coroutine[Any, Any, None], gateway: Process) -> None:
    """Stop, but a second SIGTERM or SIGINT cuts the connections; what was accepted is still stored."""
    task = asyncio.create_task(stopping, name="stopping")
    hurry = asyncio.create_task(at_once.wait(), name="second signal")
    await asyncio.wait([task, hurry], return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not task.done():
        log.warning("stopping_at_once")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await gateway.close()
        return
    await task


def _announce(gateway: Process, took_s: float) -> None:
    """What a person needs now: its addresses, where the data is, and one line to paste."""
    if isinstance(gateway, Managing):
        _announce_managing(gateway, took_s)
        return
    public, operations = gateway.addresses["public"], gateway.addresses["operations"]
    jobs = gateway.addresses["jobs"]
    log.info("ready", version=__version__, public=public, operations=operations, jobs=jobs, took_s=round(took_s, 3))
    scheme = "wss" if gateway.settings.listen.tls_certificate_file else "ws"
    heiwa = Path(sys.argv[0]).name if Path(sys.argv[0]).name != "__main__.py" else "python -m gateway"
    if Path(".venv/bin/heiwa").exists():
        heiwa = ".venv/bin/heiwa"
    folder = Path(gateway.settings.data.folder)
    setting = "" if str(folder) == "heiwa-data" else f" --set data.folder={folder}"
    lines = [
        f"Heiwa {__version__} is ready ({took_s:.1f} s).",
        *(f"  devices     {scheme}://{address}/ws" for address in public),
        *(f"  operations  http://{address}" for address in operations),
        *(f"  jobs        http://{address}" for address in jobs),
        f"  data        {folder.absolute()}",
        "Paste into another terminal:",
        f"  {heiwa} device --sub dog-1 --url {scheme}://{public[0]}/ws{setting}",
        f"  curl -sH \"Authorization: Bearer $({heiwa} token --sub me --scope 'location:read device:read'{setting})\" "
        f"'http://{operations[0]}/api/v1/locations/search?bbox=-180,-90,180,90&limit=5'",
    ]
    print("\n".join(lines), flush=True)  # noqa: T201


def _announce_managing(process: Managing, took_s: float) -> None:
    operations = process.addresses["operations"]
    log.info("ready", version=__version__, roles=process.roles.names, operations=operations, took_s=round(took_s, 3))
    lines = [
        f"Heiwa {__version__} is ready ({took_s:.1f} s).",
        f"  roles       {', '.join(process.roles.names)}",
        *(f"  operations  http://{address}" for address in operations),
        f"  data        {Path(process.settings.data.folder).absolute()}",
    ]
    print("\n".join(lines), flush=True)  # noqa: T201
