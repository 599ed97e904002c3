"""A connection against the oracle: the same messages, the same bytes out and the same close code, however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.properties.frame_streams import MAX_BYTES, closes, illegal, legal, streams
from tests.support.bench import ECHO, Bench
from tests.support.oracle import Oracle
from tests.support.wire import CLOSE, PING, PONG, TEXT, Frame, client_frame, read_answer, request, server_frames

_FLAGS = (f"connections.max_message_bytes={MAX_BYTES}", "connections.outbound_max_bytes=10000000")


OUR_WORDS = (1003, 1007)
short = st.one_of(legal, closes, illegal).filter(lambda frame: 0 < len(frame) < 150)


class Comparison:
    """One connection and its oracle, fed with the same reads."""

    def __init__(self) -> None:
        self.bench = Bench(*_FLAGS)
        self.connection, self.transport = self.bench.open()
        self.oracle = Oracle(MAX_BYTES)

    def feed(self, data: bytes) -> None:
        self.oracle.feed(data)
        self.transport.feed(data)
        self.check()

    def check(self) -> None:
        oracle = self.oracle
        assert self.bench.session.messages == oracle.messages
        assert _comparable(bytes(self.transport.written)) == _comparable(oracle.out)
        assert self.transport.ended == oracle.ended

    def finish(self) -> None:
        """The connection is recorded as ended by the code the oracle closed with."""
        self.transport.finish()
        ((_, code, _),) = self.bench.hub.disconnects
        assert code == (self.oracle.close_code or 1006)
        assert self.bench.hub.table._free.tolist() == [self.connection.slot]


def _comparable(data: bytes) -> list[Frame]:
    """Frames with the reason left out where the oracle cannot know our words."""
    return [
        frame._replace(payload=frame.payload[:2])
        if frame.opcode == CLOSE and frame.close_code in (1003, 1007)
        else frame
        for frame in server_frames(data)
    ]


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


@given(streams, st.lists(st.integers(0, 400), max_size=8))
@example([client_frame(TEXT, b"\xed\xa0", final=False)], [])
@settings(max_examples=400, deadline=None)
def test_any_stream_in_any_pieces(stream: list[bytes], cuts: list[int]) -> None:
    comparison = Comparison()
    for piece in _cut(b"".join(stream), cuts):
        comparison.feed(piece)
    comparison.finish()


@given(streams)
@settings(max_examples=150, deadline=None)
def test_frame_by_frame(stream: list[bytes]) -> None:
    comparison = Comparison()
    for frame in stream:
        if frame:
            comparison.feed(frame)
    comparison.finish()


@given(
    st.one_of(legal, closes, illegal).filter(lambda frame: 0 < len(frame) < 400), legal.filter(lambda f: len(f) < 400)
)
@settings(max_examples=60, deadline=None)
def test_split_at_every_point_with_a_successor(frame: bytes, successor: bytes) -> None:
    data = frame + successor
    for point in range(1, len(data)):
        comparison = Comparison()
        comparison.feed(data[:point])
        comparison.feed(data[point:])
        comparison.finish()


@given(short)
@settings(max_examples=100, deadline=None)
def test_byte_by_byte(frame: bytes) -> None:
    comparison = Comparison()
    for position in range(len(frame)):
        comparison.feed(frame[position : position + 1])
    comparison.finish()


@given(streams)
@settings(max_examples=150, deadline=None)
def test_glued_to_the_handshake(stream: list[bytes]) -> None:
    data = b"".join(stream)
    bench = Bench(*_FLAGS)
    transport = bench.accept()
    transport.feed(request("good", protocols=[ECHO]) + data)
    oracle = Oracle(MAX_BYTES)
    oracle.feed(data)
    answer = read_answer(transport.take())
    assert answer.status == 101
    assert _comparable(answer.rest) == _comparable(oracle.out)
    assert bench.session.messages == oracle.messages
    assert transport.ended == oracle.ended


@given(streams)
@settings(max_examples=50, deadline=None)
def test_nothing_of_a_peer_without_a_token_is_read(stream: list[bytes]) -> None:
    bench = Bench(*_FLAGS)
    transport = bench.accept()
    transport.feed(request("bad", protocols=[ECHO]) + b"".join(stream))
    assert read_answer(transport.take()).status == 401
    assert bench.session.events == []
    assert bench.hub.messages_in == 0


@pytest.mark.parametrize("size", [65_534, 65_535, 65_536, 70_000, 70_001])
def test_large_frames_at_every_edge_of_their_header(size: int) -> None:
    data = client_frame(TEXT, b"a" * size) + client_frame(PING, b"after")
    for cut in [*range(1, 16), len(data) - 12, len(data) - 11, len(data) - 1]:
        bench = Bench("connections.max_message_bytes=70000", "connections.outbound_max_bytes=10000000")
        _, transport = bench.open()
        transport.feed(data[:cut])
        transport.feed(data[cut:])
        frames = server_frames(transport.take())
        if size > 70_000:
            assert [frame.close_code for frame in frames] == [1009]
        else:
            assert [(frame.opcode, len(frame.payload)) for frame in frames] == [(TEXT, size), (PONG, 5)]
