"""Reading and writing plain frames, and finding where any frame ends."""

from __future__ import annotations

import runpy
import sys

import pytest

from gateway.wire import frames
from gateway.wire.frames import (
    INCOMPLETE,
    UNUSUAL,
    FrameEnd,
    PlainFrame,
    close_frame,
    pong_frame,
    read_plain_frame,
    text_frame,
)
from tests.support.wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, client_frame, server_frames

MAX = 100_000


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535])
def test_text(size: int) -> None:
    payload = bytes(range(256)) * 256
    frame = client_frame(TEXT, payload[:size], mask=b"\x01\x80\xff\x00")
    assert read_plain_frame(b"..." + frame + b"...", 3, MAX) == PlainFrame(TEXT, payload[:size], 3 + len(frame))


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_control(opcode: int) -> None:
    frame = client_frame(opcode, b"x" * 125)
    assert read_plain_frame(frame, 0, MAX) == PlainFrame(opcode, b"x" * 125, len(frame))


@pytest.mark.parametrize("size", [0, 5, 126])
def test_every_beginning_is_incomplete(size: int) -> None:
    frame = client_frame(TEXT, b"x" * size)
    assert all(read_plain_frame(frame[:end], 0, MAX) is INCOMPLETE for end in range(len(frame)))


@pytest.mark.parametrize(
    "frame",
    [
        client_frame(TEXT, b"x", mask=None),
        client_frame(TEXT, b"x", final=False),
        client_frame(TEXT, b"x", reserved=4),
        client_frame(TEXT, b"x" * 65_536),
        client_frame(TEXT, b"x", length_bytes=8),
        client_frame(PING, b"x", length_bytes=2),
        *(client_frame(opcode, b"x") for opcode in (CONT, BINARY, 3, 7, 11, 15)),
    ],
)
def test_anything_else_is_left_to_the_sans_io_layer_at_its_second_byte(frame: bytes) -> None:
    assert read_plain_frame(frame[:2], 0, MAX) is UNUSUAL
    assert read_plain_frame(frame, 0, MAX) is UNUSUAL


def test_a_frame_above_the_limit_is_known_by_its_header() -> None:
    assert read_plain_frame(client_frame(TEXT, b"", claimed=1025)[:4], 0, 1024) is UNUSUAL
    assert read_plain_frame(client_frame(TEXT, b"", claimed=1024)[:4], 0, 1024) is INCOMPLETE


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_what_is_written(size: int) -> None:
    ((opcode, payload, final, reserved),) = server_frames(text_frame(b"x" * size))
    assert (opcode, len(payload), final, reserved) == (TEXT, size, True, 0)


def test_a_pong_repeats_the_ping() -> None:
    assert server_frames(pong_frame(b"?" * 125)) == [(PONG, b"?" * 125, True, 0)]


def test_masking_without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    # A second copy of the module; the one in use stays as it is.
    slow = runpy.run_path(frames.__file__)["apply_mask"]
    fast = vars(frames)["apply_mask"]
    assert slow is not fast
    data = bytes(range(256)) * 4
    for size in (0, 1, 3, 4, 5, 1000):
        assert slow(data[:size], b"\x01\x02\xfe\xff") == fast(data[:size], b"\x01\x02\xfe\xff")


@pytest.mark.parametrize(
    ("reason", "expected"), [("", b""), ("x" * 123, b"x" * 123), ("x" * 200, b"x" * 123), ("é" * 62, "é".encode() * 61)]
)
def test_a_close_frame_holds_what_a_control_frame_may(reason: str, expected: bytes) -> None:
    (frame,) = server_frames(close_frame(1012, reason))
    assert (frame.opcode, frame.close_code, frame.payload[2:]) == (CLOSE, 1012, expected)


def test_a_close_is_read_whole() -> None:
    data = client_frame(CLOSE, b"\x03\xf4bye")
    assert all(read_plain_frame(data[:cut], 0, MAX) is INCOMPLETE for cut in range(len(data)))
    assert read_plain_frame(data, 0, MAX) == (CLOSE, b"\x03\xf4bye", len(data))


ALL_KINDS = [
    client_frame(TEXT, b""),
    client_frame(TEXT, b"x" * 125),
    client_frame(TEXT, b"x" * 126),
    client_frame(TEXT, b"x" * 300, length_bytes=8),
    client_frame(TEXT, b"", length_bytes=2),
    client_frame(TEXT, b"x" * 9, mask=None),
    client_frame(CLOSE),
]


@pytest.mark.parametrize("frame", ALL_KINDS)
def test_the_end_of_a_frame_in_any_pieces(frame: bytes) -> None:
    for cut in range(len(frame) + 1):
        ends = FrameEnd()
        first, second = frame[:cut], frame[cut:]
        if first:
            assert ends.advance(first, 0) == (cut, not second)
        if second:
            assert ends.advance(second, 0) == (len(second), True)


def test_the_ends_of_a_stream() -> None:
    data = b"".join(ALL_KINDS)
    ends, position, found = FrameEnd(), 0, []
    while position < len(data):
        position, whole = ends.advance(data, position)
        assert whole
        found.append(position)
    assert found == [sum(map(len, ALL_KINDS[: count + 1])) for count in range(len(ALL_KINDS))]
