"""The frames nearly all traffic is made of, read and written directly (RFC 6455, 5.2).

Everything else – fragments, large frames, extensions, errors, a close that the peer begins – is left to websockets'
Sans-I/O layer (`inflated.py`), which stays the judge of what is correct.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled extension for this platform

    def apply_mask(data: bytes, mask: bytes) -> bytes:  # type: ignore[misc]
        """XOR of integers: 4 times slower than the extension for 100 bytes, 60 times for 60 KB."""
        length = len(data)
        key = (mask * (length // 4 + 1))[:length]
        return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")


TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_FIN_TEXT = 0x81
_FIN_BINARY = 0x82
_FIN_CLOSE = 0x88
_FIN_PING = 0x89
_FIN_PONG = 0x8A
_PLAIN = frozenset((_FIN_TEXT, _FIN_CLOSE, _FIN_PING, _FIN_PONG))
_MASKED = 0x80
_SHORT = 125
_MEDIUM = 126
_MAX_SHORT_BYTES = 125
_MAX_MEDIUM_BYTES = 0xFFFF


class PlainFrame(NamedTuple):
    """A whole text, close, ping or pong frame. `end` is the position after it."""

    opcode: int
    payload: bytes
    end: int


# Half of what the constructor of a named tuple costs, which is a function of Python's.
_new: Any = tuple.__new__


class Incomplete:
    """The bytes so far can be the beginning of a plain frame; wait for more."""


class Unusual:
    """Not a plain frame, or not a legal one: the Sans-I/O layer has to look at it."""


INCOMPLETE: Final = Incomplete()
UNUSUAL: Final = Unusual()


def read_plain_frame(data: bytes | bytearray, position: int, max_bytes: int) -> PlainFrame | Incomplete | Unusual:
    """Read one final, masked text or control frame of at most `max_bytes` (and 65,535) that begins at `position`.

    Decides as soon as the header allows it, so that a peer's error is answered no later than the Sans-I/O layer would.
    """
    available = len(data) - position
    if available < 2:
        return INCOMPLETE
    first = data[position]
    length = data[position + 1] - _MASKED
    # RFC 6455, 5.1: "a client MUST mask all frames"; an unmasked one is negative here and thus unusual.
    if 0 <= length <= _SHORT and first in _PLAIN:
        start = position + 6
    elif length == _MEDIUM and first == _FIN_TEXT:
        if available < 4:
            return INCOMPLETE
        length = data[position + 2] << 8 | data[position + 3]
        start = position + 8
    else:
        return UNUSUAL
    if length > max_bytes:
        return UNUSUAL
    end = start + length
    if end > len(data):
        return INCOMPLETE
    frame: PlainFrame = _new(PlainFrame, (first & 0x0F, apply_mask(data[start:end], data[start - 4 : start]), end))
    return frame


def text_frame(payload: bytes) -> bytes:
    """A whole, final, unmasked text frame; `payload` is UTF-8."""
    return _frame(_FIN_TEXT, payload)


def payloads_of(frames: bytes) -> Iterator[bytes]:
    """What whole, unmasked frames hold, one after the other."""
    position = 0
    while position < len(frames):
        length = frames[position + 1]
        position += 2
        if length >= _MEDIUM:
            size = 2 if length == _MEDIUM else 8
            length = int.from_bytes(frames[position : position + size], "big")
            position += size
        yield frames[position : position + length]
        position += length


def binary_frame(payload: bytes) -> bytes:
    """A whole, final, unmasked binary frame."""
    return _frame(_FIN_BINARY, payload)


def ping_frame(payload: bytes) -> bytes:
    """A ping; `payload` is at most 125 bytes (RFC 6455, 5.5)."""
    return _frame(_FIN_PING, payload)


def payload_bytes(max_frame_bytes: int) -> int:
    """The longest payload of an unmasked frame of at most `max_frame_bytes`, header included."""
    if max_frame_bytes <= 2 + _MAX_SHORT_BYTES:
        return max_frame_bytes - 2
    return max_frame_bytes - (4 if max_frame_bytes <= 4 + _MAX_MEDIUM_BYTES else 10)


def pong_frame(payload: bytes) -> bytes:
    """RFC 6455, 5.5.3: "must have identical Application data as found in the message body of the Ping frame"."""
    return _frame(_FIN_PONG, payload)


def close_frame(code: int, reason: str) -> bytes:
    """RFC 6455, 5.5.1; of `reason` as much as a control frame holds."""
    text = reason.encode()[: _MAX_SHORT_BYTES - 2].decode(errors="ignore")
    return _frame(_FIN_CLOSE, code.to_bytes(2, "big") + text.encode())


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length <= _MAX_SHORT_BYTES:
        return bytes((first, length)) + payload
    if length <= _MAX_MEDIUM_BYTES:
        return bytes((first, 126, length >> 8, length & 0xFF)) + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


class FrameEnd:
    """Finds where the frames of a stream end, without judging them."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0

    @property
    def midway(self) -> bool:
        """Whether part of a frame was seen, and not its end."""
        return bool(self._header)

    def advance(self, data: bytes, position: int) -> tuple[int, bool]:
        """How far the current frame goes within `data` from `position`, and whether it ends there."""
        if self._left == 0:
            position = self._read_header(data, position)
            if self._left < 0:
                self._left = 0
                return position, False
        end = min(position + self._left, len(data))
        self._left -= end - position
        if self._left == 0:
            self._header.clear()
            return end, True
        return end, False

    def _read_header(self, data: bytes, position: int) -> int:
        """Take header bytes; `_left` becomes the payload's length, or −1 while the header is not whole."""
        header = self._header
        while len(header) < _header_bytes(header):
            if position == len(data):
                self._left = -1
                return position
            header.append(data[position])
            position += 1
        self._left = _payload_bytes(header)
        return position


def _header_bytes(header: bytearray) -> int:
    """RFC 6455, 5.2: 2 bytes, 0, 2 or 8 of extended length, 4 of masking key when the mask bit is set."""
    if len(header) < 2:
        return 2
    length = header[1] & 0x7F
    extended = 2 if length == _MEDIUM else 8 if length > _MEDIUM else 0
    return 2 + extended + (4 if header[1] & _MASKED else 0)


def _payload_bytes(header: bytearray) -> int:
    length = header[1] & 0x7F
    if length == _MEDIUM:
        return int.from_bytes(header[2:4], "big")
    if length > _MEDIUM:
        return int.from_bytes(header[2:10], "big")
    return length
