"""The pacer, for any churn, stall, change of receivers and clock: in time, bounded unless forced, all closed."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.drain.pacer import BURST_S, CATCH_UP_S, LATE_S, NO_BOUND_PER_S, TICK_S, Pacer, bound_per_s, usual_s
from gateway.drain.plan import play


def close(pacer: Pacer, now_s: float, left: int, bound: float) -> int:
    """Close what is due."""
    count = pacer.due(now_s, left, bound)
    pacer.closed(count)
    return count


def run(connections: int, window_s: float, bound: float = NO_BOUND_PER_S, tick_s: float = TICK_S) -> list[int]:
    """Closes a tick until nobody is left."""
    pacer, left, now_s = Pacer(0.0, window_s), connections, 0.0
    counts = []
    while left:
        now_s += tick_s
        counts.append(close(pacer, now_s, left, bound))
        left -= counts[-1]
        assert now_s <= window_s + tick_s
    return counts


def per_second(counts: list[int]) -> list[int]:
    ticks = round(1 / TICK_S)
    return [sum(counts[start : start + ticks]) for start in range(0, len(counts), ticks)]


def test_ten_thousand_over_ten_minutes_are_even() -> None:
    seconds = per_second(run(10_000, 600))
    assert max(seconds) == 17
    assert min(seconds[:-1]) >= 16
    assert sum(seconds) == 10_000


def test_no_one_is_left_alone_and_nobody_is_closed_twice() -> None:
    assert sum(run(1, 600)) == 1
    assert run(0, 600) == []
    pacer = Pacer(0, 10)
    assert close(pacer, 1, 0, 100) == 0
    assert pacer.rate_per_s == 0


def test_the_deadline_closes_all() -> None:
    pacer = Pacer(0, 10)
    assert close(pacer, 10, 5000, NO_BOUND_PER_S) == 5000


def test_a_stall_is_made_up_for_gently() -> None:
    pacer, left, now_s = Pacer(0, 600), 60_000, 0.25
    left -= close(pacer, now_s, left, NO_BOUND_PER_S)
    now_s = 30.25
    seconds = []
    for _ in range(30):
        before = left
        for _ in range(round(1 / TICK_S)):
            left -= close(pacer, now_s, left, NO_BOUND_PER_S)
            now_s += TICK_S
        seconds.append(before - left)
    even = left / (600 - now_s)
    assert max(seconds) <= 1.11 * even
    assert max(seconds[-4:]) <= 1.02 * even
    made_up = sum(seconds) - 30 * even
    assert made_up <= (CATCH_UP_S + 1) * even


def test_a_tick_that_is_half_a_second_late_once_is_no_burst() -> None:
    pacer, left, now_s = Pacer(0, 600), 60_000, 0.0
    while now_s < 10:
        now_s += TICK_S
        left -= close(pacer, now_s, left, NO_BOUND_PER_S)
    now_s += 0.5
    late = close(pacer, now_s, left, NO_BOUND_PER_S)
    assert late <= 1.1 * LATE_S * 100 + 1
    left -= late
    while now_s < 20:
        now_s += TICK_S
        left -= close(pacer, now_s, left, NO_BOUND_PER_S)
    assert abs(60_000 - left - 100 * now_s) <= 5, "it is made up for"


def test_a_stall_soon_after_a_stall_is_no_burst() -> None:
    for first_s, second_s in ((30.0, 2.0), (30.0, 1.0), (2.5, 2.5), (0.5, 0.5)):
        pacer, left, now_s = Pacer(0, 600), 60_000, 0.0
        for stall_s in (0.0, first_s, second_s):
            now_s += stall_s
            late = close(pacer, now_s, left, NO_BOUND_PER_S)
            even = left / (600 - now_s)
            assert late <= even, "what one second's receivers see"
            left -= late
            for _ in range(10):
                now_s += TICK_S
                left -= close(pacer, now_s, left, NO_BOUND_PER_S)


def test_at_times_late_is_even_all_the_same() -> None:
    chance = Random(3)
    pacer, left, now_s, closes = Pacer(0, 300), 60_000, 0.0, [0] * 302
    while left:
        now_s += TICK_S + (chance.uniform(0.1, 0.5) if chance.random() < 0.05 else 0.0)
        count = close(pacer, now_s, left, NO_BOUND_PER_S)
        closes[int(now_s)] += count
        left -= count
    assert max(closes) <= 1.3 * 200


def test_late_ticks_do_not_lead_to_a_rush_at_the_end() -> None:
    chance = Random(5)
    pacer, left, now_s, closes = Pacer(0, 300), 30_000, 0.0, [0] * 302
    while left:
        now_s += TICK_S * chance.uniform(1, 1.6)
        count = close(pacer, now_s, left, NO_BOUND_PER_S)
        closes[int(now_s)] += count
        left -= count
    assert max(sum(closes[begin : begin + 5]) for begin in range(0, 300, 5)) <= 1.1 * 500


def test_who_is_always_late_does_not_end_with_a_rush() -> None:
    for tick_s in (0.6, 1.2, 1.9):
        counts = run(6000, 300, tick_s=tick_s)
        assert max(counts) <= math.ceil(1.1 * 20 * tick_s)


def test_every_second_tick_late_is_no_rush_either() -> None:
    pacer, left, now_s = Pacer(0, 300), 6000, 0.0
    while left:
        before = left
        for wait_s in (TICK_S, 0.6):
            now_s += wait_s
            left -= close(pacer, now_s, left, NO_BOUND_PER_S)
        assert before - left <= 1.15 * 20 * (TICK_S + 0.6)


def test_the_bound_holds_while_the_deadline_allows_it() -> None:
    pacer, left, now_s = Pacer(0, 100), 1000, 0.0
    while left:
        # The process stands still for half a minute: the rate would double at once.
        now_s += 30 if math.isclose(now_s, 10) else TICK_S
        count = close(pacer, now_s, left, 20.0)
        assert count <= 5
        left -= count
    assert pacer.overrun == 0


def test_what_the_deadline_forces_is_counted() -> None:
    pacer, left, now_s = Pacer(0, 10), 1000, 0.0
    while left:
        now_s += TICK_S
        left -= close(pacer, now_s, left, 20.0)
    assert now_s <= 10.25
    assert 780 <= pacer.overrun <= 820


def test_without_receivers_everything_is_an_overrun() -> None:
    pacer, left, now_s = Pacer(0, 10), 100, 0.0
    while left:
        now_s += TICK_S
        left -= close(pacer, now_s, left, 0.0)
    assert now_s <= 10.25
    assert pacer.overrun == 100


def test_our_share_of_what_the_receivers_take() -> None:
    assert bound_per_s(8, 4, 200) == 400
    assert bound_per_s(8, 0, 200) == 1600
    assert bound_per_s(0, 4, 200) == 0
    assert bound_per_s(3, 4, 0) == NO_BOUND_PER_S


steps = st.lists(
    st.tuples(
        st.one_of(st.just(TICK_S), st.floats(0, 40)),  # time to the next tick: stalls
        st.integers(-50, 50),  # churn: who left by itself, who came late
        st.one_of(st.just(0.0), st.floats(0, 500), st.just(NO_BOUND_PER_S)),  # receivers come and go
        st.booleans(),  # the clock shows an earlier moment
    ),
    max_size=200,
)


@pytest.mark.parametrize("left_s", [5e-324, 1e-300, 1e-12])
def test_next_to_no_time_left_is_no_rate_without_end(left_s: float) -> None:
    pacer = Pacer(0.0, left_s)
    assert pacer.due(0.0, 1, 0.0) == 0
    assert 0 < pacer.rate_per_s < float("inf")
    assert pacer.due(left_s, 1, 0.0) == 1


@settings(max_examples=300)
@given(st.integers(0, 5000), st.floats(0, 700), steps)
def test_for_any_churn_stall_and_change_of_receivers(
    connections: int, window_s: float, chances: list[tuple[float, int, float, bool]]
) -> None:
    pacer, left, now_s = Pacer(0, window_s), connections, 0.0
    usually_s, last_s = TICK_S, 0.0
    for wait_s, churn, bound, back in chances:
        now_s += wait_s
        left = max(0, left + churn)
        overrun = pacer.overrun
        seen_s = now_s - 5 if back else now_s
        count = close(pacer, seen_s, left, bound)
        assert 0 <= count <= left
        left_s = window_s - seen_s
        if left_s <= 0:
            assert count == left
        else:
            # However long it stood still, a tick does the work of two, or of what was usual lately; never a burst.
            most_s = 1.1 * max(LATE_S, usually_s)
            assert count <= 1 + most_s * left / left_s
            if left <= bound * left_s:
                # The deadline forces nothing.
                assert count <= max(1.0, bound * BURST_S)
                assert pacer.overrun == overrun
        left -= count
        usually_s, last_s = usual_s(usually_s, max(0.0, seen_s - last_s)), max(last_s, seen_s)
    end_s = max(window_s, now_s)
    while left:
        now_s += TICK_S
        left -= close(pacer, now_s, left, 10.0)
        assert now_s <= end_s + TICK_S


@settings(max_examples=50)
@given(st.integers(1, 3000), st.floats(1, 600))
def test_an_undisturbed_drain_is_even(connections: int, window_s: float) -> None:
    rate = connections / window_s
    counts = run(connections, window_s)
    assert all(count <= rate * TICK_S + 2 for count in counts)


def test_a_plan_tells_the_peak_with_its_chance() -> None:
    plan = play(10_000, 1, 600, 200, Random(1))
    assert 17 <= plan.peak_reconnects_per_s <= 25
    assert plan.overrun == 0
    assert sum(plan.curve) == 10_000
    assert plan.even_rate_per_s == round(10_000 / 600, 3)


def test_a_plan_for_many_tasks_at_once() -> None:
    plan = play(1000, 8, 60, 5, Random(1))
    assert plan.connections == 8000
    assert plan.overrun > 0
    # What the receivers cannot take in time is told to come back later: 133 closes a second, fewer reconnects.
    assert 40 <= plan.peak_reconnects_per_s <= 100


def test_a_plan_for_nobody() -> None:
    plan = play(0, 1, 60, 100, Random(1))
    assert (plan.peak_reconnects_per_s, plan.curve) == (0, [])
