"""The transport on real sockets and uvloop, in this process, with blocking calls of the gateway forbidden."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop
from blockbuster import blockbuster_ctx

from gateway.adapters.clock import SystemClock
from gateway.connections.admission import admission
from gateway.connections.connection import Connection
from gateway.connections.door import Door
from gateway.connections.hub import Hub
from gateway.connections.securing import accepting
from gateway.identity.identity import Identity
from gateway.wire.listener import Address, SocketOptions, listen, open_socket
from tests.support.bench import ECHO, FakeAuthenticator, Recording, device, make_settings
from tests.support.wire import read_answer, request

DEADLINE_S = 10.0


def on_uvloop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on uvloop, within a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test()

    def run() -> None:
        with blockbuster_ctx("gateway"), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(bounded())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


class Watched(Recording):
    """A recording session that tests wait on."""

    def __init__(self) -> None:
        super().__init__()
        self.opened_now = asyncio.Event()
        self.closed_now = asyncio.Event()

    def opened(self, connection: Connection) -> None:
        super().opened(connection)
        self.opened_now.set()

    def closed(self, connection: Connection) -> None:
        super().closed(connection)
        self.closed_now.set()


class Served:
    """A listening echo: its door, hub, session and port."""

    def __init__(self, door: Door, session: Watched, port: int, authenticator: FakeAuthenticator) -> None:
        self.door = door
        self.hub = door.hub
        self._authenticator = authenticator
        self.session = session
        self.port = port

    def identify(self, identity: Identity) -> None:
        """The token `good` is this device's."""
        self._authenticator.identities["good"] = identity

    def url(self, scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/ws"

    async def dial(self, data: bytes = b"") -> Peer:
        """A raw connection that has sent `data`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return Peer(reader, writer)

    async def dial_open(self) -> tuple[Peer, Connection]:
        """A raw connection past its handshake, and the server's side of it."""
        self.session.opened_now.clear()
        peer = await self.dial(request("good", protocols=[ECHO]))
        assert read_answer(await peer.reader.readuntil(b"\r\n\r\n")).status == 101
        await self.session.opened_now.wait()
        return peer, self.session.connections[-1]


class Peer:
    """The client's end of a raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def stop_reading(self) -> None:
        """Leave what the server sends in the kernel."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def close(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def served(*flags: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    """Listen on a free port while the block lasts; the token `good` opens a websocket."""
    settings = await asyncio.to_thread(make_settings, *flags)
    session = Watched()
    authenticator = FakeAuthenticator(good=device())
    clock = SystemClock()
    hub = Hub(settings, clock, admission(settings.connections, 1000, 256, clock.monotonic_s()), random.Random(7))
    door = Door(hub, settings, authenticator, {ECHO: session})  # type: ignore[arg-type]
    options = SocketOptions(64, send_buffer_bytes=settings.connections.send_buffer_bytes)
    listener = open_socket("listen.public", Address("127.0.0.1", 0), options)
    server = await listen(listener, accepting(door, tls), options)
    ticking = asyncio.create_task(hub.run(), name="heartbeat")
    try:
        yield Served(door, session, listener.getsockname()[1], authenticator)
    finally:
        ticking.cancel()
        server.close()
        for connection in [holder for holder in hub.holders if isinstance(holder, Connection)]:
            connection.transport.abort()
        for task in door.securing:
            task.cancel()
        await asyncio.gather(ticking, *door.securing, return_exceptions=True)
