"""One open connection on a fake transport: what it answers, when it pauses, and how it ends."""

from __future__ import annotations

import gc
import socket
import struct
import weakref

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.connections.ending import DRAIN
from gateway.wire.close_codes import Fault
from gateway.wire.inflated import Inflated
from gateway.wire.socket_end import reset
from tests.support.bench import Bench, Recording, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import CLOSE, CONT, PING, PONG, TEXT, client_frame, close_payload, server_frames

HELLO = client_frame(TEXT, b"hello")


def _codes(data: bytes) -> list[int]:
    return [frame.close_code for frame in server_frames(data) if frame.opcode == CLOSE]


# Inflating and deflating


def test_plain_traffic_needs_no_sans_io_layer() -> None:
    connection, transport = Bench().open()
    transport.feed(HELLO + client_frame(PING, b"?") + client_frame(PONG))
    assert connection._inflated is None
    assert [frame.opcode for frame in server_frames(transport.take())] == [TEXT, PONG]


def test_it_deflates_only_between_two_messages() -> None:
    connection, transport = Bench().open()
    for part in (
        client_frame(TEXT, b"a", final=False),
        client_frame(PING, b"?"),
        client_frame(CONT, b"b", final=False),
    ):
        transport.feed(part)
        assert connection._inflated is not None
    transport.feed(client_frame(CONT, b"c"))
    assert connection._inflated is None


def test_it_does_not_deflate_within_a_frame() -> None:
    connection, transport = Bench().open()
    frame = client_frame(TEXT, b"x" * 300, length_bytes=8)
    for position in range(len(frame) - 1):
        transport.feed(frame[position : position + 1])
        # The Sans-I/O layer's own buffer is empty after 2, 10 and 14 bytes: that proves nothing.
        assert position == 0 or connection._inflated is not None
    transport.feed(frame[-1:])
    assert connection._inflated is None


def test_it_never_deflates_with_a_compression_context() -> None:
    protocol = ServerProtocol(state=State.OPEN, max_size=1000)
    protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    connection, transport = Bench().open(inflated=Inflated(1000, protocol))
    transport.feed(HELLO)
    assert connection._inflated is not None
    (answer,) = server_frames(transport.take())
    assert answer.reserved == 4, "the answer is compressed"


def test_a_deflated_protocol_is_free_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        connection, transport = Bench().open()
        transport.feed(client_frame(TEXT, b"a", final=False))
        assert connection._inflated is not None
        # The protocol has slots for no weak reference; its reader has none either, but a frame of its generator does.
        protocol = weakref.ref(connection._inflated._protocol)
        transport.feed(client_frame(CONT, b"b"))
        assert protocol() is None
    finally:
        gc.enable()


def test_connections_that_came_and_went_leave_nothing() -> None:
    bench = Bench()

    def come_and_go() -> None:
        _, transport = bench.open()
        transport.feed(HELLO + client_frame(TEXT, b"a", final=False) + client_frame(CONT, b"b"))
        transport.feed(client_frame(CLOSE, close_payload(1000)))
        transport.finish()
        bench.session.events.clear()
        bench.session.connections.clear()

    come_and_go()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(200):
            come_and_go()
        assert len(gc.get_objects()) - before < 20
    finally:
        gc.enable()
    assert len(bench.hub.holders) == 1
    assert not bench.hub.endings
    assert bench.hub.admission.open == 0


# Who is heard


def test_nothing_is_understood_after_a_reset_within_one_read() -> None:
    class Leaving(Recording):
        def text(self, connection, payload: bytes) -> None:  # type: ignore[no-untyped-def]
            super().text(connection, payload)
            connection.reset()

    session = Leaving()
    _, transport = Bench(session=session).open()
    transport.feed(HELLO + client_frame(TEXT, b"too late"))
    assert session.messages == [b"hello"]


def test_nothing_is_understood_after_our_close() -> None:
    bench = Bench()
    connection, transport = bench.open()
    connection.close(DRAIN, "", code=1012)
    transport.feed(HELLO)
    assert bench.session.messages == []
    assert _codes(transport.take()) == [1012]
    transport.feed(client_frame(CLOSE, close_payload(1012)))
    assert transport.ended


def test_a_close_in_the_middle_of_a_plain_frame() -> None:
    bench = Bench()
    connection, transport = bench.open()
    transport.feed(HELLO[:4])
    connection.close(DRAIN, "", code=1012)
    transport.take()
    transport.feed(HELLO[4:] + client_frame(PING, b"?"))
    assert not transport.ended
    assert [frame.opcode for frame in server_frames(transport.take())] == [PONG]
    transport.feed(client_frame(CLOSE, close_payload(1012)))
    assert bench.session.messages == []
    assert transport.ended


def test_nothing_counts_after_both_close_frames() -> None:
    bench = Bench()
    connection, transport = bench.open()
    connection.close(DRAIN, "", code=1012)
    transport.feed(client_frame(CLOSE, close_payload(1012)) + client_frame(PING, b"?") + HELLO)
    transport.feed(client_frame(CLOSE, close_payload(1012)) + client_frame(TEXT, b"x", final=False))
    assert [frame.opcode for frame in server_frames(transport.take())] == [CLOSE]
    assert transport.ended
    assert connection._inflated is None


@pytest.mark.parametrize(
    "frame", [client_frame(TEXT, b"x", final=False), client_frame(TEXT, b"x" * 300, length_bytes=8)]
)
def test_what_is_not_plain_after_our_close_is_left_to_the_sans_io_layer(frame: bytes) -> None:
    bench = Bench()
    connection, transport = bench.open()
    connection.close(DRAIN, "", code=1012)
    transport.feed(frame)
    assert not transport.ended
    transport.feed(client_frame(CLOSE, close_payload(1012)))
    assert _codes(transport.take()) == [1012]
    assert transport.ended
    assert bench.session.messages == []
    transport.finish()
    assert bench.hub.disconnects == {("drain", 1012, Fault.PLAN): 1}


def test_a_frame_against_the_protocol_after_our_close_ends_it() -> None:
    connection, transport = Bench().open()
    connection.close(DRAIN, "", code=1012)
    transport.feed(client_frame(TEXT, b"x", mask=None))
    assert _codes(transport.take()) == [1012]
    assert transport.ended


def test_sending_after_the_peer_ended_its_side() -> None:
    bench = Bench()
    connection, transport = bench.open()
    transport.feed(client_frame(TEXT, b"a", final=False))
    transport.feed_eof()
    connection.send(b"an ack that comes too late")
    bench.pass_time(6)
    assert transport.aborted, "what cannot be sent must not hold the file"


# Pausing


def test_pausing_for_pressure_stops_the_heartbeat() -> None:
    bench = Bench("connections.heartbeat_s=10")
    connection, transport = bench.open()
    connection.expect(1)
    connection.pause_reading()
    assert not transport.reading
    bench.pass_time(100)
    assert transport.take() == b""
    connection.resume_reading()
    assert transport.reading
    bench.pass_time(9)
    assert transport.take() == b"", "the peer gets a whole heartbeat from here"
    bench.pass_time(2)
    assert [frame.opcode for frame in server_frames(transport.take())] == [PING]


def test_reading_resumes_when_the_last_reason_is_gone() -> None:
    connection, transport = Bench().open()
    transport.stop_taking()
    connection.expect(1)
    connection.pause_reading()
    connection.send(b"x" * 70_000)
    connection.resume_reading()
    assert not transport.reading
    transport.take_again()
    assert transport.reading


def test_more_bytes_than_allowed_slow_reading_down() -> None:
    bench = Bench("connections.bytes_per_s=2000", "connections.max_message_bytes=1024")
    _, transport = bench.open()
    for _ in range(6):
        transport.feed(client_frame(TEXT, b"x" * 1000))
        if not transport.reading:
            break
    assert not transport.reading
    bench.pass_time(4)
    assert transport.reading


def test_a_peer_that_closes_while_it_is_slowed_down_is_let_go() -> None:
    bench = Bench("connections.bytes_per_s=2000", "connections.max_message_bytes=1024")
    _, transport = bench.open()
    transport.feed(client_frame(TEXT, b"x" * 1000) * 6 + client_frame(CLOSE, close_payload(1000)))
    assert transport.ended
    assert transport.reading, "its end would not be seen"


def test_messages_above_the_rate_end_with_4429() -> None:
    bench = Bench("connections.messages_per_s=1", "connections.messages_burst=5")
    _, transport = bench.open()
    transport.feed(HELLO * 10)
    assert len(bench.session.messages) == 5
    assert _codes(transport.take()) == [4429]


# Slow consumers


def test_too_much_unsent_data_ends_with_4503() -> None:
    bench = Bench("connections.outbound_max_bytes=4096")
    connection, transport = bench.open()
    transport.stop_taking()
    for _ in range(5):
        connection.send(b"x" * 1000)
    assert _codes(transport.take()) == [4503]
    bench.pass_time(6)
    assert transport.aborted


def test_a_consumer_that_reads_nothing_for_a_heartbeat_ends_with_4503() -> None:
    bench = Bench("connections.heartbeat_s=10", "connections.outbound_max_bytes=100000")
    connection, transport = bench.open()
    transport.stop_taking()
    connection.send(b"x" * 60_000)
    bench.pass_time(9)
    assert _codes(transport.take()) == []
    bench.pass_time(2)
    assert _codes(transport.take()) == [4503]


def test_a_consumer_that_catches_up_stays() -> None:
    bench = Bench("connections.heartbeat_s=10", "connections.outbound_max_bytes=100000")
    connection, transport = bench.open()
    transport.stop_taking()
    connection.send(b"x" * 60_000)
    bench.pass_time(9)
    transport.take_again()
    bench.pass_time(9)
    assert _codes(transport.take()) == []


# Heartbeat


def test_a_silent_peer_is_pinged_then_closed_then_cut() -> None:
    bench = Bench("connections.heartbeat_s=10", "connections.close_timeout_s=2")
    _, transport = bench.open()
    bench.pass_time(9.75)
    assert transport.take() == b""
    bench.pass_time(0.5)
    assert [frame.opcode for frame in server_frames(transport.take())] == [PING]
    bench.pass_time(9.5)
    assert transport.take() == b""
    bench.pass_time(0.75)
    assert _codes(transport.take()) == [4408]
    bench.pass_time(3)
    assert transport.aborted
    transport.finish()
    assert bench.hub.disconnects == {("heartbeat_timeout", 4408, Fault.NETWORK): 1}


def test_a_peer_that_answers_pings_stays() -> None:
    bench = Bench("connections.heartbeat_s=10")
    _, transport = bench.open()
    for _ in range(20):
        bench.pass_time(5)
        if transport.take():
            transport.feed(client_frame(PONG))
    assert not transport.closing


@pytest.mark.parametrize("compressed", [False, True])
def test_pings_go_out_in_either_form(compressed: bool) -> None:
    bench = Bench("connections.heartbeat_s=10")
    protocol = ServerProtocol(state=State.OPEN, max_size=1000)
    protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    _, transport = bench.open(inflated=Inflated(1000, protocol) if compressed else None)
    bench.pass_time(10.5)
    assert [frame.opcode for frame in server_frames(transport.take())] == [PING]


def test_a_stopped_process_blames_nobody() -> None:
    bench = Bench("connections.heartbeat_s=10")
    transports = [bench.open(device(f"dev-{number}"))[1] for number in range(3)]
    bench.pass_time(5)
    bench.clock.advance(3600)
    bench.hub.tick()
    bench.pass_time(4)
    assert [transport.take() for transport in transports] == [b""] * 3
    bench.pass_time(2)
    for transport in transports:
        assert [frame.opcode for frame in server_frames(transport.take())] == [PING]


# Ends


def test_a_reset_does_not_linger() -> None:
    transport = FakeTransport()
    reset(transport)
    assert transport.aborted
    assert transport.socket.options == [(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))]


def test_a_peer_that_never_answers_our_close_is_cut() -> None:
    bench = Bench("connections.close_timeout_s=3")
    connection, transport = bench.open()
    connection.close(DRAIN, "", code=1012)
    bench.pass_time(2.5)
    assert not transport.aborted
    bench.pass_time(1)
    assert transport.aborted


def test_a_peer_that_never_ends_after_its_own_close_is_cut() -> None:
    bench = Bench("connections.close_timeout_s=3")
    _, transport = bench.open()
    transport.feed(client_frame(CLOSE, close_payload(1000)))
    bench.pass_time(4)
    assert transport.aborted


@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, "eof"), (ConnectionResetError(), "reset"), (BrokenPipeError(), "reset"), (TimeoutError(), "timed_out")],
)
def test_a_break_is_named(error: Exception | None, reason: str) -> None:
    bench = Bench()
    _, transport = bench.open()
    transport.finish(error)
    assert bench.hub.disconnects == {(reason, 1006, Fault.NETWORK): 1}
    assert bench.session.events == ["opened", "closed"]
