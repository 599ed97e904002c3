"""One websocket of a load test, as lean as the gateway's end of it: no task, timer, queue or dictionary of its own.

It reads the server's answer to the handshake and small unfragmented frames, which are all that a gateway sends, and
answers pings and close frames. Its owner decides what a message means and when to reconnect. Masks are zero, which
RFC 6455 allows (5.3 asks for unpredictable ones to protect proxies, of which there are none here), so that no byte of a
payload has to be touched.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from array import array
from typing import Protocol, cast

from gateway.device.reconnect import retry_after_s
from gateway.wire.close_codes import ABNORMAL, MESSAGE_TOO_BIG, NO_STATUS, NORMAL, PROTOCOL_ERROR
from loadtest.scenario.client_models import ClientModel

# The key and its answer stand in RFC 6455, 1.3. One key for all: this end has no cache to protect.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MAX_HEAD_BYTES = 16_384
MAX_FRAME_BYTES = 16_777_216
MIN_RECEIVE_BYTES = 1000  # no client has a smaller limit
SMALL_BUFFER_BYTES = 2304  # the minimum that Linux grants (socket(7))

CONNECTING, OPENING, OPEN, LEAVING, REFUSED, BROKEN_OFF = range(6)

_RESET = struct.pack("ii", 1, 0)
_END_OF_HEAD = b"\r\n\r\n"


class ConnectionOwner(Protocol):
    """The owner of the connections. Each connection ends with exactly one call of `on_refused` or `on_ended`.

    `heard_s` holds by slot when the server was last heard, by the owner's clock `now_s`.
    """

    heard_s: array[float]
    now_s: float

    def on_opened(self, device: DeviceConnection) -> None:
        """The handshake succeeded; the server's first message is still to come."""

    def on_text(self, device: DeviceConnection, payload: bytes) -> None:
        """A text message came."""

    def on_refused(self, device: DeviceConnection, status: int, retry_after_s: float | None) -> None:
        """The handshake failed: `status` is that of the answer, or 0 without an answer."""

    def client_model_of(self, device: DeviceConnection) -> ClientModel:
        """The client model of the device."""

    def on_ended(self, device: DeviceConnection) -> None:
        """The websocket ended: see `code`, `clean` and `ours`."""


class DeviceConnection(asyncio.Protocol):
    """A connection, from the first packet to its end.

    `code` is the close code (1006: no close frame came). `clean`: the server began to close, with a close frame.
    `ours`: this end began. `goaway_ms` is the wait that a goaway asked for; -1: no goaway came.
    """

    __slots__ = ("_buffer", "clean", "code", "goaway_ms", "ours", "owner", "slot", "state", "transport")

    def __init__(self, owner: ConnectionOwner, slot: int, request: bytes) -> None:
        self._buffer = request
        self.owner = owner
        self.slot = slot
        self.state = CONNECTING
        self.code = ABNORMAL
        self.clean = False
        self.ours = False
        self.goaway_ms = -1
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        request, self._buffer = self._buffer, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        owner = self.owner
        owner.heard_s[self.slot] = owner.now_s
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        if self.state == CONNECTING:
            end = data.find(_END_OF_HEAD)
            if end < 0 and len(data) <= MAX_HEAD_BYTES:
                self._buffer = data
                return
            if not self._opened(data[: end + 2]):
                return
            data = b"" if owner.client_model_of(self).loses_glued else data[end + 4 :]
        if data:
            self._frames(data)

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.state == CONNECTING:
            self.state = REFUSED
            self.owner.on_refused(self, 0, None)
        elif self.state != REFUSED:
            self.owner.on_ended(self)

    # For the owner

    def send(self, payload: bytes) -> None:
        """Write a text message, unless the connection is over or about to end."""
        if self.state == OPEN and self.transport is not None:
            self.transport.write(masked_frame(payload))

    def leave(self, code: int = NORMAL) -> None:
        """Send a close frame, and go on reading; the owner bounds how long that may take."""
        if self.state in (OPENING, OPEN) and self.transport is not None:
            self.state = LEAVING
            self.ours = True
            self.transport.write(masked_frame(code.to_bytes(2, "big"), 0x88))

    @property
    def abnormal(self) -> bool:
        """Whether it ended without a close frame of the server (RFC 6455, 7.1.5), and not by `break_off`."""
        return self.code == ABNORMAL and self.state != BROKEN_OFF

    def break_off(self, reset: bool = True, *, ours: bool = True) -> None:
        """End without a close frame, by RST or, without `reset`, by FIN. Not `ours`: somebody else broke the path."""
        if self.transport is None:
            return
        if ours and self.state in (OPENING, OPEN, LEAVING):
            self.ours, self.state = True, BROKEN_OFF
        if reset:
            # On uvloop abort() alone sends FIN.
            sock: socket.socket | None = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def stop_reading(self) -> None:
        """Stop reading, with a small receive buffer in Linux, so that the server notices soon."""
        assert self.transport is not None
        self.transport.pause_reading()
        sock: socket.socket | None = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)

    # Reading

    def _opened(self, head: bytes) -> bool:
        status = int(head[9:12]) if head.startswith(b"HTTP/1.1 ") and head[9:12].isdigit() else 0
        if status == 101 and ACCEPT in head:
            self.state = OPENING
            self.owner.on_opened(self)
            return True
        self.state = REFUSED
        assert self.transport is not None
        self.transport.close()
        self.owner.on_refused(self, status if status != 101 else 0, retry_after_s(fields(head, b"retry-after")))
        return False

    def _frames(self, data: bytes) -> None:
        position, size = 0, len(data)
        while size - position >= 2:
            first, length = data[position], data[position + 1]
            start = position + 2
            if length > 127:
                # RFC 6455, 5.1: a client MUST close a connection if it detects a masked frame.
                self._broken()
                return
            if length > 125:
                extra = 2 if length == 126 else 8
                start += extra
                if size < start:
                    break
                length = int.from_bytes(data[start - extra : start], "big")
            if length > MAX_FRAME_BYTES:
                self._broken()
                return
            if size < start + length:
                break
            position = start + length
            if length > MIN_RECEIVE_BYTES and self._too_long(length):
                if self.state == LEAVING:
                    return
                continue
            if first == 0x81:
                self.owner.on_text(self, data[start:position])
            elif not self._control(first, data[start:position]):
                return
            if self.transport is None or self.state == REFUSED:
                return
        if position < size:
            self._buffer = data[position:]

    def _too_long(self, length: int) -> bool:
        """Whether a frame of this length is more than this client takes."""
        client_model = self.owner.client_model_of(self)
        if not 0 < client_model.receive_bytes < length:
            return False
        if client_model.closes_above and self.transport is not None:
            self.leave(MESSAGE_TOO_BIG)
            self.code = MESSAGE_TOO_BIG
            self.transport.close()
        return True

    def _control(self, first: int, payload: bytes) -> bool:
        assert self.transport is not None
        if first == 0x89:
            if self.state != LEAVING and (payload or not self.owner.client_model_of(self).overlooks_empty_pings):
                self.transport.write(masked_frame(payload, 0x8A))
            return True
        if first == 0x8A:
            return True
        if first != 0x88:
            self._broken()
            return False
        self.code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NO_STATUS
        if not self.ours:
            if self.owner.client_model_of(self).answers_close:
                # RFC 6455, 5.5.1: an endpoint that receives a Close frame and has not sent one MUST send one back.
                self.transport.write(masked_frame(payload[:2], 0x88))
                self.state = LEAVING
            self.clean = True
        return True

    def _broken(self) -> None:
        """Close after a frame that no gateway sends: masked, fragmented, binary or enormous."""
        assert self.transport is not None
        self.state = LEAVING
        self.code = PROTOCOL_ERROR
        self.transport.write(masked_frame(PROTOCOL_ERROR.to_bytes(2, "big"), 0x88))
        self.transport.close()


def masked_frame(payload: bytes, first: int = 0x81) -> bytes:
    """A frame of a client, with a mask of zeros."""
    length = len(payload)
    if length < 126:
        return b"%c%c\0\0\0\0%b" % (first, 0x80 | length, payload)
    if length < 65_536:
        return b"%c\xfe%b\0\0\0\0%b" % (first, length.to_bytes(2, "big"), payload)
    return b"%c\xff%b\0\0\0\0%b" % (first, length.to_bytes(8, "big"), payload)


def fields(head: bytes, name: bytes) -> list[str]:
    """The values of a header field (`name` in lower case) in the head of an answer, in their order."""
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return [value.strip().decode("latin-1") for found, _, value in lines if found.strip().lower() == name]


def request(path: str, host: str, token: str, subprotocol: str, header: str = "") -> bytes:
    """The request of the opening handshake, with the token as devices send it (RFC 6750, 2.1), and further lines."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {subprotocol}\r\n"
        f"Authorization: Bearer {token}\r\n{header}\r\n"
    ).encode("latin-1")
