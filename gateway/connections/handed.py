"""A connection of the public listener that asked for something else than a websocket."""

from __future__ import annotations

import asyncio

from gateway.connections.hub import Hub

# The API answers within half a minute. A client may send many requests on one connection, but one that sends its next
# request a byte at a time must not hold a file for ever.
MAX_LIFE_S = 300.0


class Handed(asyncio.Protocol):
    """Passes an HTTP connection on to the API's protocol, keeps count of it, and ends it when it lasts too long."""

    __slots__ = ("_hub", "_inner", "_slot", "_transport")

    def __init__(self, hub: Hub, slot: int, transport: asyncio.Transport, inner: asyncio.Protocol) -> None:
        self._hub = hub
        self._slot = slot
        self._transport = transport
        self._inner = inner

    def take_over(self, data: bytes) -> None:
        """From here on the inner protocol reads and writes; `data` is what was read already."""
        self._hub.holders[self._slot] = self
        self._hub.set_deadline(self._slot, MAX_LIFE_S)
        self._transport.set_protocol(self)
        self._inner.connection_made(self._transport)
        self._inner.data_received(data)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def look(self, now_s: float) -> None:
        """The wheel has come to this connection."""
        deadline_s = self._hub.table.deadline_s[self._slot]
        if now_s < deadline_s:
            self._hub.wheel.schedule(self._slot, deadline_s)
        else:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.admission.open -= 1
        self._hub.free_slot(self._slot)
        self._inner.connection_lost(exc)
