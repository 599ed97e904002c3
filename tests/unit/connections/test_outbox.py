"""What is due to a connection in one turn leaves in one write, whatever it is."""

from __future__ import annotations

from collections.abc import Callable

from gateway.connections.ending import DRAIN
from gateway.connections.outbox import LARGE_BYTES, MAX_PARTS, WRITES_A_TURN, Outbox
from gateway.wire.frames import text_frame
from tests.support.bench import Bench
from tests.support.fake_transport import Turns
from tests.support.wire import CLOSE, PING, PONG, TEXT, client_frame, server_frames


class Sink:
    """Remembers its writes, and may fail at them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.writes: list[bytes] = []
        self.errors: list[Exception] = []
        self._error = error

    def write_out(self, data: bytes) -> None:
        if self._error is not None:
            raise self._error
        self.writes.append(data)

    def failed(self, error: Exception) -> None:
        self.errors.append(error)


def test_a_turn_is_one_write_for_each() -> None:
    turns = Turns()
    outbox = Outbox(turns.defer)
    first, second = Sink(), Sink()
    for part in (b"a", b"b"):
        outbox.add(first, part)
    outbox.add(second, b"c")
    assert first.writes == []
    turns.end()
    outbox.add(first, b"d")
    turns.end()
    assert (first.writes, second.writes) == ([b"ab", b"d"], [b"c"])


def test_one_that_fails_keeps_nobody_from_being_written_to() -> None:
    turns = Turns()
    outbox = Outbox(turns.defer)
    broken, well = Sink(ValueError("it cannot")), Sink()
    outbox.add(broken, b"a")
    outbox.add(well, b"b")
    turns.end()
    assert [str(error) for error in broken.errors] == ["it cannot"]
    assert well.writes == [b"b"]


def test_very_many_leave_over_several_turns_and_in_their_order() -> None:
    calls: list[Callable[[], None]] = []
    outbox = Outbox(calls.append)
    sinks = [Sink() for _ in range(2 * WRITES_A_TURN + 1)]
    for sink in sinks:
        outbox.add(sink, b"a")
    calls.pop()()
    assert sum(len(sink.writes) for sink in sinks) == WRITES_A_TURN
    outbox.add(sinks[-1], b"b")
    outbox.add(sinks[0], b"b")
    while calls:
        calls.pop(0)()
    assert sinks[0].writes == [b"a", b"b"]
    assert sinks[-1].writes == [b"ab"]


def test_what_is_collected_is_bounded() -> None:
    outbox, sink = Outbox(lambda _: None), Sink()
    outbox.add(sink, b"a")
    outbox.add(sink, b"b" * (LARGE_BYTES + 1))
    assert [len(written) for written in sink.writes] == [LARGE_BYTES + 2]
    for _ in range(MAX_PARTS + 1):
        outbox.add(sink, b"c")
    assert sink.writes[1:] == [b"c" * (MAX_PARTS + 1)]


def test_what_is_flushed_or_dropped_does_not_leave_again() -> None:
    turns = Turns()
    outbox = Outbox(turns.defer)
    flushed, gone = Sink(), Sink()
    outbox.add(flushed, b"a")
    outbox.add(gone, b"a")
    outbox.flush(flushed)
    outbox.drop(gone)
    turns.end()
    assert (flushed.writes, gone.writes) == ([b"a"], [])


def test_echoes_pongs_events_and_the_goaway_leave_together() -> None:
    bench = Bench()
    connection, transport = bench.open()
    before = transport.writes
    assert transport.protocol is connection
    assert connection.push(text_frame(b"event"))
    connection.send(b"ack")
    connection.data_received(client_frame(TEXT, b"one") + client_frame(PING, b"p"))
    assert transport.writes == before + 1
    connection.send(b"ack")
    assert connection.push(text_frame(b"event"))
    connection.leave(DRAIN)
    assert transport.writes == before + 2
    frames = server_frames(transport.take())
    assert [frame.opcode for frame in frames] == [TEXT, TEXT, TEXT, PONG, TEXT, TEXT, TEXT, CLOSE]
    assert [frame.payload for frame in frames[:5]] == [b"event", b"ack", b"one", b"p", b"ack"]


def test_a_slow_peer_takes_no_events_and_is_told_of_when_it_reads_again() -> None:
    bench = Bench()
    connection, transport = bench.open()
    transport.stop_taking()
    event, taken = text_frame(b"x" * 1000), 0
    while connection.push(event):
        taken += 1
        bench.turns.end()
    assert 65 <= taken <= 67, "64 KiB"
    assert "writable" not in bench.session.events
    transport.take_again()
    assert bench.session.events[-1] == "writable"
    assert connection.push(event)
    assert len(server_frames(transport.take())) == taken + 1
    connection.close(DRAIN, "")
    assert connection.push(event), "after a close frame it is not slow, and nothing leaves"
    assert [frame.opcode for frame in server_frames(transport.take())] == [CLOSE]
