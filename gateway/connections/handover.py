"""A connection of the public listener that asked for something else than a websocket.

The HTTP API's protocol gets a transport that is only lent to it. So a later request of the same connection can still
ask for a websocket: proxies and many clients reuse a connection for it. The API hands that request over with the
bytes behind it, the requests before it are answered by then, and the connection starts again as a new one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.connections.hub import Hub

# The API answers within half a minute. A client may send many requests on one connection, but one that sends its next
# request a byte at a time must not hold a file for ever.
MAX_LIFE_S = 300.0
# What the lent transport offers the API under these names, besides what every transport has.
AUTHORIZED: Final = "heiwa.authorized"
UPGRADE: Final = "heiwa.upgrade"


class Handed(asyncio.Protocol):
    """Passes an HTTP connection on to the API's protocol, keeps count of it, and ends it when it lasts too long.

    Until a request of it was authorised it is as good as a handshake: pending, with the time that one has.
    """

    __slots__ = ("_again", "_hub", "_inner", "_lent", "_pending", "_slot", "_transport")

    def __init__(
        self,
        hub: Hub,
        slot: int,
        transport: asyncio.Transport,
        inner: asyncio.Protocol,
        again: Callable[[bytes], None],
    ) -> None:
        """`again` takes the connection back with the bytes of a request for a websocket."""
        self._hub = hub
        self._slot = slot
        self._transport = transport
        self._inner = inner
        self._again = again
        self._lent = Lent(transport, {AUTHORIZED: self._authorized, UPGRADE: self._upgrade})
        self._pending = True

    def take_over(self, data: bytes) -> None:
        """From here on the inner protocol reads and writes; `data` is what was read already. It is pending still."""
        self._hub.admission.http += 1
        self._hub.holders[self._slot] = self
        self._transport.set_protocol(self)
        self._inner.connection_made(self._lent)
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
        elif self._transport.is_closing():
            self._transport.abort()
        else:
            # What was answered still leaves.
            self._transport.close()
            self._hub.set_deadline(self._slot, self._hub.settings.close_timeout_s)

    def failed(self, error: Exception) -> None:
        """Ends it after an error of ours."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._hub.admission.open -= 1
        self._hub.free_slot(self._slot)
        self._inner.connection_lost(exc)

    def _authorized(self) -> None:
        """A request of this connection had a valid token."""
        if self._pending:
            self._pending = False
            self._hub.admission.pending -= 1
            self._hub.set_deadline(self._slot, MAX_LIFE_S)

    def _upgrade(self, request: bytes) -> None:
        """Take the connection back from the API: `request` is one for a websocket, and what came behind it."""
        self._leave()
        self._lent.take_back()
        # The API is in the middle of answering: it hears of the end when it is done.
        asyncio.get_running_loop().call_soon(self._inner.connection_lost, None)
        self._again(request)

    def _leave(self) -> None:
        self._hub.admission.http -= 1
        if self._pending:
            self._pending = False
            self._hub.admission.pending -= 1


class Lent(asyncio.Transport):
    """A transport for a borrower; nothing that it does has an effect once the transport was taken back."""

    def __init__(self, transport: asyncio.Transport, offers: dict[str, Any]) -> None:
        super().__init__()
        self._lender = transport
        self._offers = offers
        self._taken_back = False

    def take_back(self) -> None:
        """End the loan, and read on if the borrower had paused reading."""
        self._taken_back = True
        if not self._lender.is_closing() and not self._lender.is_reading():
            self._lender.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name in self._offers:
            return None if self._taken_back else self._offers[name]
        return self._lender.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._taken_back or self._lender.is_closing()

    def close(self) -> None:
        if not self._taken_back:
            self._lender.close()

    def abort(self) -> None:
        if not self._taken_back:
            self._lender.abort()

    def is_reading(self) -> bool:
        return not self._taken_back and self._lender.is_reading()

    def pause_reading(self) -> None:
        if not self._taken_back:
            self._lender.pause_reading()

    def resume_reading(self) -> None:
        if not self._taken_back:
            self._lender.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._taken_back:
            self._lender.write(data)

    def can_write_eof(self) -> bool:
        return not self._taken_back and self._lender.can_write_eof()

    def write_eof(self) -> None:
        if not self._taken_back:
            self._lender.write_eof()

    def get_write_buffer_size(self) -> int:
        return 0 if self._taken_back else self._lender.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if not self._taken_back:
            self._lender.set_write_buffer_limits(high, low)
