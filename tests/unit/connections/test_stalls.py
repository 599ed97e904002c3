"""The whole process stood still for a while: nobody is cut for what it could not do, or for what lies unread."""

from __future__ import annotations

import asyncio

import pytest

from gateway.connections.ending import DRAIN
from gateway.wire.close_codes import HEARTBEAT_TIMEOUT, RATE
from tests.support.bench import ECHO, Bench, device
from tests.support.virtual_time import run
from tests.support.wire import CLOSE, TEXT, client_frame, close_payload, request, server_frames

# Less than half a heartbeat, and more than any time-out of a close.
STALL_S = 20.0


@pytest.mark.parametrize("stall_s", [0.5, STALL_S])
def test_who_is_sent_away_before_the_first_tick_has_its_time_to_answer(stall_s: float) -> None:
    bench = Bench("connections.close_timeout_s=0.5")
    connection, transport = bench.open()
    bench.clock.advance(stall_s)
    connection.leave(DRAIN)
    bench.hub.tick()
    assert not transport.aborted
    assert [frame.close_code for frame in server_frames(transport.take()) if frame.opcode == CLOSE] == [1001]
    transport.feed(client_frame(CLOSE, close_payload(1001)))
    assert transport.ended


def test_who_is_sent_away_after_a_stall_is_not_waited_for_any_longer() -> None:
    bench = Bench("connections.close_timeout_s=5")
    connection, transport = bench.open()
    bench.clock.advance(3600)
    connection.leave(DRAIN)
    bench.pass_time(5.5)
    assert transport.aborted


def test_an_answer_to_a_close_may_come_after_the_stall() -> None:
    bench = Bench("connections.close_timeout_s=5")
    connection, transport = bench.open()
    connection.leave(DRAIN)
    bench.pass_time(1)
    bench.clock.advance(STALL_S)
    bench.pass_time(3.5)
    assert not transport.aborted
    bench.pass_time(1)
    assert transport.aborted


def test_what_lies_unread_is_read_before_its_time_is_found_to_be_over() -> None:
    async def stand_still() -> None:
        bench = Bench("connections.close_timeout_s=0.5")
        connection, transport = bench.open()
        connection.leave(DRAIN)
        ticking = asyncio.create_task(bench.hub.run())
        await asyncio.sleep(0)
        bench.clock.advance(0.6)
        # A loop that was stopped runs what is due by time, and then it reads.
        loop, answer = asyncio.get_running_loop(), client_frame(CLOSE, close_payload(1001))
        loop.call_later(bench.hub.tick_s, loop.call_soon, transport.feed, answer)
        await asyncio.sleep(1)
        ticking.cancel()
        assert transport.ended

    run(stand_still())


def test_a_peer_that_is_to_be_reset_gets_what_was_written() -> None:
    bench = Bench("device_classes.frail.close=abort")
    connection, transport = bench.open(device(device_class="frail"))
    transport.stop_taking()
    bench.clock.advance(STALL_S)
    connection.leave(DRAIN)
    bench.hub.tick()
    assert not transport.aborted
    assert transport.unsent
    transport.take_again()
    bench.pass_time(0.5)
    assert transport.aborted


def test_a_handshake_may_go_on_after_the_stall() -> None:
    bench = Bench("listen.handshake_timeout_s=5")
    transport = bench.accept()
    whole = request("good", protocols=[ECHO])
    transport.feed(whole[:20])
    bench.clock.advance(STALL_S)
    bench.hub.tick()
    transport.feed(whole[20:])
    assert transport.take().startswith(b"HTTP/1.1 101")


def test_a_message_may_go_on_after_the_stall() -> None:
    bench = Bench("connections.heartbeat_s=10")
    _, transport = bench.open()
    frame = client_frame(TEXT, b"hello")
    transport.feed(frame[:4])
    bench.clock.advance(STALL_S)
    bench.pass_time(5)
    transport.feed(frame[4:])
    assert bench.session.messages == [b"hello"]


def test_a_message_that_does_not_go_on_ends_its_connection_all_the_same() -> None:
    bench = Bench("connections.heartbeat_s=10")
    _, transport = bench.open()
    transport.feed(client_frame(TEXT, b"hello")[:4])
    bench.clock.advance(STALL_S)
    bench.pass_time(10.5)
    assert server_frames(transport.take())[-1].close_code == HEARTBEAT_TIMEOUT


@pytest.mark.parametrize("ticked", [False, True])
def test_what_was_sent_meanwhile_is_within_the_rate(ticked: bool) -> None:
    bench = Bench("connections.messages_per_s=1", "connections.messages_burst=5")
    _, transport = bench.open()
    bench.clock.advance(STALL_S)
    if ticked:
        bench.hub.catch_up()
    transport.feed(client_frame(TEXT, b"x") * int(STALL_S))
    assert len(bench.session.messages) == STALL_S
    bench.hub.tick()
    transport.feed(client_frame(TEXT, b"y"))
    assert server_frames(transport.take())[-1].close_code == RATE, "the burst is used up"


def test_between_two_ticks_the_rate_goes_by_the_clock() -> None:
    bench = Bench("connections.messages_per_s=8", "connections.messages_burst=4")
    _, transport = bench.open()
    transport.feed(client_frame(TEXT, b"x") * 4)
    bench.clock.advance(0.5)
    transport.feed(client_frame(TEXT, b"y") * 4)
    assert len(bench.session.messages) == 8
    transport.feed(client_frame(TEXT, b"z"))
    assert server_frames(transport.take())[-1].close_code == RATE


def test_a_loop_that_is_always_late_waits_for_nobody_any_longer() -> None:
    bench = Bench("listen.handshake_timeout_s=5")
    transport = bench.accept()
    bench.hub.lag_s = 1.5
    for _ in range(4):
        bench.clock.advance(1.75)
        bench.hub.tick()
    assert transport.take().startswith(b"HTTP/1.1 408")
