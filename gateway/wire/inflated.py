"""A connection for as long as it needs the whole protocol: websockets' Sans-I/O layer fed with the bytes at hand.

Adds what that layer leaves to its caller: UTF-8 checking over fragments (RFC 6455, 8.1), and a bound on the number of
fragments. Lives until the frame that asked for it is dealt with, or to the end once a closing handshake began.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from websockets.frames import Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from gateway.wire.close_codes import ABNORMAL, INVALID_DATA, MESSAGE_TOO_BIG
from gateway.wire.frames import FrameEnd

# Each fragment costs as much work as a whole message. Messages larger than the default may have more of them.
MIN_FRAGMENTS = 1024
FRAGMENT_BYTES = 128

# Python's decoder waits for the rest of a surrogate, for those who allow them; UTF-8 has none (RFC 3629, 3).
_HALF_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]").match


class Step(NamedTuple):
    """What one frame, or the part of it at hand, led to.

    `position`: the bytes up to here are used. `message`: a whole message, None: none ended here; `binary` tells its
    kind. `whole`: the frame ended here. `empty`: it is part of a message, not its end, and has no payload.
    """

    position: int
    message: bytes | None
    whole: bool
    binary: bool = False
    empty: bool = False


class Inflated:
    """One connection's Sans-I/O protocol in state OPEN or later."""

    __slots__ = (
        "_binary",
        "_decoder",
        "_end",
        "_failed",
        "_fragments",
        "_message",
        "_most_fragments",
        "_protocol",
        "began_s",
    )

    def __init__(self, max_message_bytes: int, protocol: ServerProtocol | None = None, began_s: float = 0.0) -> None:
        """`protocol` is the one of the handshake where extensions were agreed; None makes a plain one. `began_s` is
        when the message under way began, by the caller's clock."""
        self._protocol = protocol or ServerProtocol(state=State.OPEN, max_size=max_message_bytes)
        self._end = FrameEnd()
        self._message: bytearray | None = None
        self._fragments = 0
        self._most_fragments = max(MIN_FRAGMENTS, max_message_bytes // FRAGMENT_BYTES)
        self._binary = False
        self._decoder: codecs.IncrementalDecoder | None = None
        self._failed = False
        self.began_s = began_s

    def receive(self, data: bytes, position: int) -> Step:
        """Feed bytes up to the end of one frame at most, so that what they lead to happens in the order of frames."""
        if self._discards:
            return Step(len(data), None, whole=False)
        end, whole = self._end.advance(data, position)
        self._protocol.receive_data(data if end - position == len(data) else data[position:end])
        message, empty = None, False
        for frame in self._protocol.events_received():
            if self._protocol.state is State.OPEN:
                message = self._data(frame.opcode, bytes(frame.data), frame.fin)  # type: ignore[union-attr]
                empty = not frame.fin and not frame.data  # type: ignore[union-attr]
        if not whole and self._protocol.state is not State.OPEN:
            end = len(data)
        return Step(end, message, whole, self._binary, empty)

    def receive_eof(self) -> None:
        """The peer will send nothing more."""
        self._protocol.receive_eof()

    def send_text(self, payload: bytes) -> None:
        """A text message; needed here only with an extension."""
        self._protocol.send_text(payload)

    def send_binary(self, payload: bytes) -> None:
        """A binary message."""
        self._protocol.send_binary(payload)

    def send_ping(self, payload: bytes) -> None:
        """A ping."""
        self._protocol.send_ping(payload)

    def send_close(self, code: int, reason: str) -> None:
        """Begin the closing handshake (RFC 6455, 7.1.2); nothing happens when it has begun."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455, 7.1.7): close frame, then no more reading."""
        if self._protocol.state is State.OPEN:
            self._protocol.fail(code, reason)
            self._failed = True

    @property
    def _discards(self) -> bool:
        """Whether nothing that comes is looked at: the connection has failed (RFC 6455, 7.1.7), or the peer's close
        frame is here (5.5.1)."""
        protocol = self._protocol
        return self._failed or protocol.parser_exc is not None or protocol.close_rcvd is not None

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
        return self._message is not None or self._end.midway

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
        if opcode is Opcode.CONT:
            return self._fragment(payload, final)
        if opcode is not Opcode.TEXT and opcode is not Opcode.BINARY:
            return None
        self._binary = opcode is Opcode.BINARY
        if final and (self._binary or payload.isascii()):
            return payload
        self._message, self._fragments = bytearray(), 0
        self._decoder = None if self._binary else codecs.getincrementaldecoder("utf-8")()
        return self._fragment(payload, final)

    def _fragment(self, payload: bytes, final: bool) -> bytes | None:
        """One more piece of the message under way; the whole of it at its end."""
        self._fragments += 1
        if self._fragments > self._most_fragments:
            self.fail(MESSAGE_TOO_BIG, f"a message of more than {self._most_fragments} fragments")
            return None
        if self._message is None or not self._is_text_so_far(payload, final):
            return None
        self._message += payload
        if not final:
            return None
        message = bytes(self._message)
        self._message = self._decoder = None
        return message

    def _is_text_so_far(self, payload: bytes, final: bool) -> bool:
        """RFC 6455, 8.1: text that is not UTF-8 fails the connection, in whichever fragment it shows."""
        decoder = self._decoder
        if decoder is None:
            return True
        try:
            decoder.decode(payload, final)
        except UnicodeDecodeError as error:
            self.fail(INVALID_DATA, error.reason[:100])
            return False
        if _HALF_SURROGATE(decoder.getstate()[0]):
            self.fail(INVALID_DATA, "surrogates are not allowed")
            return False
        return True


def release(protocol: ServerProtocol) -> None:
    """Drop the generator that refers back to its protocol (1.9 KB kept until a collection otherwise)."""
    protocol.parser = None  # type: ignore[assignment]
