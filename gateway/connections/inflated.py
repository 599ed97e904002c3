"""A connection for as long as it needs the whole protocol: websockets' Sans-I/O layer fed with the bytes at hand.

Adds what that layer leaves to its caller: UTF-8 checking over fragments (RFC 6455, 8.1) and the refusal of binary
messages. Lives until the frame that asked for it is dealt with, or to the end once a closing handshake began.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from websockets.frames import Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from gateway.connections.close_codes import ABNORMAL, INVALID_DATA, UNSUPPORTED_DATA
from gateway.connections.frames import FrameEnd

# Python's decoder waits for the rest of a surrogate, for those who allow them; UTF-8 has none (RFC 3629, 3).
_HALF_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]").match


class Step(NamedTuple):
    """What one frame, or the part of it at hand, led to.

    `position`: the bytes up to here are used. `message`: a whole text message, None: none ended here. `whole`: the
    frame ended here.
    """

    position: int
    message: bytes | None
    whole: bool


class Inflated:
    """One connection's Sans-I/O protocol in state OPEN or later."""

    __slots__ = ("_decoder", "_end", "_fragments", "_protocol")

    def __init__(self, max_message_bytes: int, protocol: ServerProtocol | None = None) -> None:
        """`protocol` is the one of the handshake where extensions were agreed; None makes a plain one."""
        self._protocol = protocol or ServerProtocol(state=State.OPEN, max_size=max_message_bytes)
        self._end = FrameEnd()
        self._fragments: list[bytes] = []
        self._decoder: codecs.IncrementalDecoder | None = None

    def receive(self, data: bytes, position: int) -> Step:
        """Feed bytes up to the end of one frame at most, so that what they lead to happens in the order of frames."""
        end, whole = self._end.advance(data, position)
        self._protocol.receive_data(data if end - position == len(data) else data[position:end])
        message = None
        for frame in self._protocol.events_received():
            if self._protocol.state is State.OPEN:
                message = self._data(frame.opcode, bytes(frame.data), frame.fin)  # type: ignore[union-attr]
        if not whole and self._protocol.state is not State.OPEN:
            end = len(data)
        return Step(end, message, whole)

    def receive_eof(self) -> None:
        """The peer will send nothing more."""
        self._protocol.receive_eof()

    def send_text(self, payload: bytes) -> None:
        """A text message; needed here only with an extension."""
        self._protocol.send_text(payload)

    def send_ping(self) -> None:
        """An empty ping."""
        self._protocol.send_ping(b"")

    def send_close(self, code: int, reason: str) -> None:
        """Begin the closing handshake (RFC 6455, 7.1.2); nothing happens when it has begun."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455, 7.1.7): close frame, then no more reading."""
        if self._protocol.state is State.OPEN:
            self._protocol.fail(code, reason)

    def output(self) -> tuple[bytes, bool]:
        """What is to be written now, and whether our side of the connection ends after it."""
        writes = self._protocol.data_to_send()
        return b"".join(writes), SEND_EOF in writes

    @property
    def open(self) -> bool:
        return self._protocol.state is State.OPEN

    @property
    def at_rest(self) -> bool:
        """Between two messages, nothing agreed or begun that the next frame depends on: it may be dropped.

        Ask only when `receive` has just used a whole frame. An empty read buffer would prove nothing.
        """
        protocol = self._protocol
        return protocol.state is State.OPEN and protocol.current_size is None and not protocol.extensions

    @property
    def midway(self) -> bool:
        """Whether part of a message is here."""
        return self._decoder is not None or self._end.midway

    @property
    def close_code(self) -> int:
        """The code that ended the connection: the peer's when we echoed it, else our own; 1006 when none was sent."""
        close = self._protocol.close_sent
        return int(close.code) if close is not None else ABNORMAL

    @property
    def closed_by_peer(self) -> bool:
        """Whether the peer's close frame began the end: ours repeats it."""
        # A close frame within a fragmented message is received, yet answered with 1002.
        protocol = self._protocol
        return protocol.close_sent is not None and protocol.close_sent is protocol.close_rcvd

    def release(self) -> None:
        """Break the reference cycle through the parser, so that the memory is free at once and not at a collection."""
        release(self._protocol)

    def _data(self, opcode: Opcode, payload: bytes, final: bool) -> bytes | None:
        if opcode is Opcode.BINARY:
            self._protocol.fail(UNSUPPORTED_DATA, "only text frames are understood")
            return None
        if opcode is not Opcode.TEXT and opcode is not Opcode.CONT:
            return None
        if opcode is Opcode.TEXT and final and payload.isascii():
            return payload
        return self._text(payload, final)

    def _text(self, payload: bytes, final: bool) -> bytes | None:
        """RFC 6455, 8.1: text that is not UTF-8 fails the connection, in whichever fragment it shows."""
        decoder = self._decoder or codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(payload, final)
        except UnicodeDecodeError as error:
            self._protocol.fail(INVALID_DATA, error.reason[:100])
            return None
        if _HALF_SURROGATE(decoder.getstate()[0]):
            self._protocol.fail(INVALID_DATA, "surrogates are not allowed")
            return None
        if payload:
            self._fragments.append(payload)
        if not final:
            self._decoder = decoder
            return None
        message = b"".join(self._fragments)
        self._fragments.clear()
        self._decoder = None
        return message


def release(protocol: ServerProtocol) -> None:
    """Drop the generator that refers back to its protocol (1.9 KB kept until a collection otherwise)."""
    protocol.parser = None  # type: ignore[assignment]
