"""The test application: the gateway's own transport with a session that sends every message back.

`python -m tests.support.echo --port 9001 [--set section.key=value]` prints `ready PORT` once it listens.
Its subprotocol `heiwa.echo` exists here only.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
from pathlib import Path

import uvloop

from gateway.adapters.clock import SystemClock
from gateway.adapters.machine import raise_file_limit
from gateway.connections.accepting import Accepting
from gateway.connections.admission import admission
from gateway.connections.connection import Connection, Session
from gateway.connections.door import Door
from gateway.connections.housekeeping import Housekeeping
from gateway.connections.hub import Hub
from gateway.identity.auth import Authenticator
from gateway.protocol.messages import Goaway, encode
from gateway.settings.load import load
from gateway.settings.model import Settings
from gateway.wire.listener import Address, SocketOptions, listen, open_socket

ECHO = "heiwa.echo"


class Echo:
    """Sends every message back."""

    def opened(self, connection: Connection) -> None: ...

    def greeting(self, connection: Connection) -> bytes | None: ...

    def goaway(self, reason: str, reconnect_after_ms: int) -> bytes:
        return encode(Goaway(reason, reconnect_after_ms))  # type: ignore[arg-type]

    def binary(self, connection: Connection, payload: bytes) -> None:
        connection.send_binary(payload)

    def text(self, connection: Connection, payload: bytes) -> None:
        connection.send(payload)

    def closed(self, connection: Connection) -> None: ...

    def writable(self, connection: Connection) -> None: ...


def make_door(settings: Settings, folder: Path, maximum: int = 19_000, session: Session | None = None) -> Door:
    clock = SystemClock()
    counts = admission(settings.connections, maximum, 0, clock.monotonic_s())
    hub = Hub(settings, clock, counts, random.Random())
    return Door(hub, settings, Authenticator(settings.auth, folder, clock), {ECHO: session or Echo()})


async def serve(settings: Settings, folder: Path, port: int) -> None:
    maximum = raise_file_limit() - settings.connections.file_reserve
    await run(settings, make_door(settings, folder, maximum), port)


async def run(settings: Settings, door: Door, port: int) -> None:
    """Until SIGTERM; prints `ready PORT`."""
    hub = door.hub
    options = SocketOptions(
        settings.listen.backlog, send_buffer_bytes=settings.connections.send_buffer_bytes, user_timeout_ms=90_000
    )
    listener = open_socket("listen.public", Address("127.0.0.1", port), options)
    server = await listen(listener, lambda: Accepting(door), options)
    housekeeping = Housekeeping(hub, lambda: 0.0)
    housekeeping.settle()
    print("ready", listener.getsockname()[1], flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tasks = [asyncio.create_task(hub.run(), name="heartbeat"), asyncio.create_task(housekeeping.run(), name="keeping")]
    ended = asyncio.create_task(stop.wait())
    await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
    server.close()
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    settings = load(Path("/dev/null"), {}, arguments.set).settings
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, folder, arguments.port))
    sys.exit(0)


if __name__ == "__main__":
    main()
