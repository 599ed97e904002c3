"""A new connection during its TLS handshake: counted from accept, bounded in number and time like any other handshake.

The event loop's own TLS listener calls the application only after the handshake; a silent peer would go unnoticed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

from gateway.connections import admission
from gateway.connections.accepting import Accepting, peer_address
from gateway.connections.door import Door
from gateway.wire.proxy import Address, ProxyHeaderError, believed_header
from gateway.wire.refusal import Refusal

# Refused before any cryptography; the others learn why once they can be told.
_BEFORE_TLS = (admission.TOO_MANY_PENDING, admission.OUT_OF_MEMORY, admission.TOO_FAST)


class Securing(asyncio.Protocol):
    """Owns one task, for as long as the handshake takes."""

    def __init__(self, door: Door, context: ssl.SSLContext) -> None:
        self._door = door
        self._hub = door.hub
        self._context = context
        self._hello = b""
        self._more = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        counts = self._hub.admission
        counts.open += 1
        counts.pending += 1
        refusal = counts.at_accept(self._hub.clock.monotonic_s())
        if refusal in _BEFORE_TLS or not counts.has_reserve(self._hub.settings.file_reserve):
            self._refuse(transport, (refusal or admission.AT_MAXIMUM).reason)
            return
        handshake = self._secure(cast(asyncio.Transport, transport), refusal)
        task = asyncio.get_running_loop().create_task(handshake, name="tls handshake")
        self._door.securing.add(task)
        task.add_done_callback(self._door.securing.discard)

    def data_received(self, data: bytes) -> None:
        # uvloop reads on after a pause in connection_made: what comes before the TLS layer is there is kept for it.
        self._hello += data
        self._more.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._more.set()

    async def _secure(self, transport: asyncio.Transport, refusal: Refusal | None) -> None:
        early, reason = _Early(), "tls"
        try:
            async with asyncio.timeout(self._door.handshake_timeout_s):
                told = await self._proxy_header(transport) if self._door.proxy_protocol else None
            secured = await self._handshake(transport, early)
            if secured is not None and not early.lost:
                accepting = Accepting(self._door)
                secured.set_protocol(accepting)
                accepting.take_over(secured, refusal, told)
                early.pass_on(accepting)
                return
            reason = "gone"
        except ProxyHeaderError:
            reason = "proxy"
        except (OSError, TimeoutError, RuntimeError):  # an ssl.SSLError is an OSError; RuntimeError: it is closed
            pass
        except BaseException:
            self._refuse(transport, reason)
            raise
        self._refuse(transport, reason)

    async def _proxy_header(self, transport: asyncio.Transport) -> tuple[Address, bool]:
        """Who the proxy says it is. Its header comes before the TLS handshake (The PROXY protocol, 2)."""
        peer = peer_address(transport)
        while (found := believed_header(peer, self._hello, self._door.proxies)) is None:
            await self._more.wait()
            self._more.clear()
            if transport.is_closing():
                raise ConnectionResetError
        address, length, told = found
        self._hello = self._hello[length:]
        return address, told

    async def _handshake(self, transport: asyncio.Transport, early: _Early) -> asyncio.Transport | None:
        loop = asyncio.get_running_loop()
        started = loop.create_task(
            loop.start_tls(
                transport, early, self._context, server_side=True, ssl_handshake_timeout=self._door.handshake_timeout_s
            ),
            name="tls start",
        )
        # One turn for the TLS layer to take the transport's place, one for it to begin; then it gets what came before.
        await asyncio.sleep(0)
        loop.call_soon(self._pass_on, transport)
        try:
            return await started
        finally:
            started.cancel()

    def _pass_on(self, transport: asyncio.Transport) -> None:
        # uvloop's is one by its methods, not by its class.
        layer = cast(asyncio.BufferedProtocol, transport.get_protocol())
        hello, self._hello = self._hello, b""
        while hello and hasattr(layer, "buffer_updated"):
            buffer = memoryview(layer.get_buffer(len(hello)))
            size = min(len(buffer), len(hello))
            buffer[:size] = hello[:size]
            layer.buffer_updated(size)
            hello = hello[size:]

    def _refuse(self, transport: asyncio.BaseTransport, reason: str) -> None:
        cast(asyncio.Transport, transport).abort()
        self._door.refusals[0, reason] += 1
        self._hub.admission.open -= 1
        self._hub.admission.pending -= 1


class _Early(asyncio.Protocol):
    """What came between the end of the handshake and the turn of its task."""

    def __init__(self) -> None:
        self._data = b""
        self._eof = False
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self._data += data

    def eof_received(self) -> None:
        self._eof = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def pass_on(self, protocol: Accepting) -> None:
        if self._data:
            protocol.data_received(self._data)
        if self._eof:
            protocol.eof_received()


def accepting(door: Door, context: ssl.SSLContext | None) -> Callable[[], asyncio.Protocol]:
    """What the public listener makes of a new connection; `context` None: it speaks plain TCP."""
    return partial(Accepting, door) if context is None else partial(Securing, door, context)
