"""Anything may happen to a connection in any order: nothing raises, it always ends, and its end is counted once.

The fake transport fails a write after the end, a double pause and a double resume.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.connections.connection import Connection
from gateway.connections.ending import DRAIN, MAX_AGE, REPLACED, TOKEN_EXPIRED, Cause
from gateway.wire.socket_end import reset
from tests.properties.frame_streams import closes, illegal, legal
from tests.support.bench import Bench, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import CLOSE, CONT, PING, TEXT, client_frame, server_frames

FLAGS = (
    "connections.max_message_bytes=2000",
    "connections.outbound_max_bytes=4096",
    "connections.heartbeat_s=5",
    "connections.close_timeout_s=2",
    "connections.bytes_per_s=5000",
    "connections.messages_per_s=20",
    "connections.messages_burst=40",
)
# A heartbeat, the answer to it, a grace, a close time-out, and what the wheel rounds.
ENDS_WITHIN_S = 5 + 5 + 2 + 2 + 3


def alive(machine: ConnectionStates) -> bool:
    return not machine.transport.closing


class ConnectionStates(RuleBasedStateMachine):
    connection: Connection
    transport: FakeTransport

    @initialize(device_class=st.sampled_from(["", "esp-idf", "unheard-of"]), greeted=st.booleans())
    def open(self, device_class: str, greeted: bool) -> None:
        self.bench = Bench(*FLAGS)
        self.connection, self.transport = self.bench.open(device(device_class=device_class), greeted=greeted)
        self.peer_closes = False

    # The peer

    @precondition(alive)
    @rule(frame=st.one_of(legal, legal, closes, illegal), cut=st.integers(0, 40))
    def says(self, frame: bytes, cut: int) -> None:
        self.peer_closes = self.peer_closes or b"\x88" in frame
        for part in (frame[:cut], frame[cut:]):
            if part and self.transport.reading:
                self.transport.feed(part)

    @precondition(lambda self: alive(self) and self.transport.reading)
    @rule(opcode=st.sampled_from([TEXT, TEXT, CONT, PING]), final=st.booleans(), whole=st.booleans())
    def says_a_part(self, opcode: int, final: bool, whole: bool) -> None:
        frame = client_frame(opcode, b"part", final=final or opcode == PING)
        self.transport.feed(frame if whole else frame[:-1])

    @precondition(lambda self: alive(self) and self.transport.reading)
    @rule(part=st.binary(min_size=1, max_size=8))
    def says_anything(self, part: bytes) -> None:
        self.peer_closes = True  # for all that is known of these bytes
        self.transport.feed(part)

    @precondition(lambda self: alive(self) and self.transport.reading)
    @rule()
    def ends_its_side(self) -> None:
        self.transport.feed_eof()

    @precondition(alive)
    @rule()
    def stops_taking(self) -> None:
        self.transport.stop_taking()

    @precondition(alive)
    @rule()
    def takes_again(self) -> None:
        self.transport.take_again()

    # Ourselves; a connection that is gone may still be spoken to by somebody who has not heard

    @rule(size=st.sampled_from([0, 100, 3000, 70_000]))
    def send(self, size: int) -> None:
        if not self.transport.lost:
            self.connection.send(b"x" * size)

    @precondition(lambda self: not self.transport.lost)
    @rule(pause=st.booleans())
    def submit(self, pause: bool) -> None:
        self.connection.expect(1)
        if pause:
            self.connection.pause_reading()

    @precondition(lambda self: not self.transport.lost and self.connection.in_flight)
    @rule()
    def settle(self) -> None:
        self.connection.answer([b"an answer"], 1)

    @precondition(lambda self: not self.transport.lost)
    @rule()
    def resume(self) -> None:
        self.connection.resume_reading()

    @rule(cause=st.sampled_from([DRAIN, MAX_AGE, TOKEN_EXPIRED, REPLACED]))
    def leave(self, cause: Cause) -> None:
        self.connection.leave(cause)

    @precondition(lambda self: not self.transport.lost)
    @rule()
    def stay(self) -> None:
        self.connection.stay()

    @rule(fails=st.booleans())
    def close(self, fails: bool) -> None:
        if fails:
            self.connection.fail(1008, "policy")
        else:
            self.connection.close(DRAIN, "", code=1001)

    @precondition(alive)
    @rule()
    def reset(self) -> None:
        reset(self.transport)

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.pass_time(seconds)

    @precondition(lambda self: self.transport.closing and not self.transport.lost)
    @rule()
    def is_told(self) -> None:
        self.transport.finish()

    # What always holds

    @invariant()
    def only_whole_frames_go_out_and_nothing_after_a_close(self) -> None:
        frames = server_frames(bytes(self.transport.written))
        codes = [index for index, frame in enumerate(frames) if frame.opcode == CLOSE]
        assert len(codes) <= 1, "two close frames"
        # Pings of a peer may still be answered; messages may not follow.
        assert all(frame.opcode > CLOSE for frame in frames[codes[0] + 1 :]) if codes else True

    @invariant()
    def a_device_that_is_reset_sees_no_close_frame(self) -> None:
        if hasattr(self, "connection") and self.connection.resets(1001) and not self.peer_closes:
            frames = server_frames(bytes(self.transport.written))
            assert {frame.close_code for frame in frames if frame.opcode == CLOSE} <= {4409}

    def teardown(self) -> None:
        """A peer that does nothing more, and takes nothing, is gone in time."""
        if not hasattr(self, "bench"):
            return
        bench, transport = self.bench, self.transport
        while self.connection.in_flight and not transport.lost:
            self.settle()
        if not transport.lost:
            self.connection.resume_reading()
            self.connection.leave(DRAIN)
            bench.pass_time(ENDS_WITHIN_S)
            assert transport.closing, "it does not end"
            transport.finish()
        assert bench.session.events.count("closed") == 1
        assert sum(bench.hub.disconnects.values()) == 1
        assert (bench.hub.admission.open, bench.hub.registry.total, bench.hub.endings) == (0, 0, {})
        bench.pass_time(ENDS_WITHIN_S)


TestConnectionStates = ConnectionStates.TestCase
TestConnectionStates.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
