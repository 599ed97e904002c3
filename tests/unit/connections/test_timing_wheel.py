"""The wheel against a model: a look is never early within the span, never late, never lost, never doubled."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from gateway.connections.timing_wheel import TimingWheel

TICK_S = 0.25
BUCKETS = 16
SPAN_S = TICK_S * (BUCKETS - 1)
slots = st.integers(0, 5)


class Wheel(RuleBasedStateMachine):
    """`due` maps each scheduled slot to the moment from which it must be looked at, at most two ticks later."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.wheel = TimingWheel(self.now_s, TICK_S, BUCKETS)
        self.due: dict[int, float] = {}

    @rule(slot=slots, after_s=st.floats(-1, 2 * SPAN_S))
    def schedule(self, slot: int, after_s: float) -> None:
        at_s = self.now_s + after_s
        self.wheel.schedule(slot, at_s)
        # What lies beyond the span comes up at the rim; what is past, at the next tick.
        rim_s = (self.wheel._now + BUCKETS - 1) * TICK_S
        self.due[slot] = min(max(at_s, self.now_s), rim_s, self.due.get(slot, math.inf))

    @rule(slot=slots)
    def use_the_slot_for_another(self, slot: int) -> None:
        self.wheel.cancel(slot)
        self.due.pop(slot, None)

    @rule(seconds=st.one_of(st.floats(0, 1), st.floats(SPAN_S, 10 * SPAN_S)), again_s=st.floats(0.1, 2 * SPAN_S))
    def turn(self, seconds: float, again_s: float) -> None:
        self.now_s += seconds
        for slot in self.wheel.turn(self.now_s):
            at_s = self.due.pop(slot, None)
            assert at_s is not None, "a look that nobody asked for"
            assert at_s <= self.now_s, "a look that came early"
            if slot % 2:  # as a connection does: it schedules its next look from within the turn
                self.schedule(slot, again_s)
        late = {slot: at_s for slot, at_s in self.due.items() if at_s < self.now_s - 2 * TICK_S}
        assert not late, "a look was lost"


TestWheel = Wheel.TestCase
TestWheel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def _turn(wheel: TimingWheel, now_s: float) -> list[int]:
    return list(wheel.turn(now_s))


def test_never_early_and_at_most_two_ticks_late() -> None:
    for hundredths in range(1, 300):
        wheel = TimingWheel(0.0, TICK_S, BUCKETS)
        at_s = hundredths / 100
        wheel.schedule(3, at_s)
        now_s = 0.0
        while not _turn(wheel, now_s):
            now_s += TICK_S / 2
        assert at_s <= now_s <= at_s + 2 * TICK_S


def test_an_earlier_look_replaces_a_later_one() -> None:
    wheel = TimingWheel(0.0, TICK_S, BUCKETS)
    wheel.schedule(1, 3.0)
    wheel.schedule(1, 1.0)
    wheel.schedule(1, 2.0)
    assert _turn(wheel, 0.9) == []
    assert _turn(wheel, 1.5) == [1]
    assert _turn(wheel, 100.0) == []


def test_beyond_the_rim_it_comes_early_and_is_scheduled_again() -> None:
    wheel = TimingWheel(0.0, TICK_S, BUCKETS)
    wheel.schedule(1, 10.0)
    now_s, looks = 0.0, 0
    while now_s < 10.0:
        now_s += TICK_S
        for slot in wheel.turn(now_s):
            looks += 1
            wheel.schedule(slot, 10.0)
    assert looks <= 4
    assert _turn(wheel, 10.5) == [1]


def test_after_a_stall_longer_than_the_wheel_nothing_is_lost() -> None:
    wheel = TimingWheel(0.0, TICK_S, BUCKETS)
    for slot in range(BUCKETS):
        wheel.schedule(slot, slot * TICK_S)
    assert sorted(_turn(wheel, 10_000.0)) == list(range(BUCKETS))


def test_a_slot_used_again_does_not_inherit_a_look() -> None:
    wheel = TimingWheel(0.0, TICK_S, BUCKETS)
    wheel.schedule(1, 1.0)
    wheel.cancel(1)
    wheel.cancel(99)
    wheel.schedule(1, 3.0)
    assert _turn(wheel, 2.9) == []
    assert _turn(wheel, 3.5) == [1]


def test_a_clock_that_does_not_move() -> None:
    wheel = TimingWheel(5.0, TICK_S, BUCKETS)
    wheel.schedule(1, 4.0)
    assert _turn(wheel, 5.0) == []
    assert _turn(wheel, 5.0 + TICK_S) == [1]
