from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.locations.event import DAY_MS
from gateway.locations.retention import AGREEMENT_MS, STEP_S, Cutoff, first_cutoff, look
from tests.support.locations import NOON_MS

TODAY = NOON_MS // DAY_MS
KEEP = 30
TARGET = TODAY - KEEP
DAYS = range(TARGET - 9, TODAY + 1)


def walk(
    cutoff: Cutoff,
    hours: float,
    ahead_ms: int = 0,
    events_ms: int | None = None,
    step_s: float = 60.0,
    days: Collection[int] = DAYS,
) -> Cutoff:
    """So many hours of looks, with a wall clock that is this far ahead of the right one. Days are not dropped."""
    began_s = cutoff.looked_s or 0.0
    for number in range(int(hours * 3600 / step_s) + 1):
        now_s = began_s + number * step_s
        cutoff = look(cutoff, NOON_MS + ahead_ms + round(now_s * 1000), now_s, KEEP, events_ms, days)
    return cutoff


def test_it_moves_one_day_an_hour_up_to_the_retention() -> None:
    behind = Cutoff(TARGET - 3)
    assert walk(behind, 0.9).day == TARGET - 3
    assert walk(behind, 1).day == TARGET - 2
    assert walk(behind, 2).day == TARGET - 1
    assert walk(behind, 9).day == TARGET


def test_a_new_day_that_comes_after_an_hour_moves_it_at_once() -> None:
    cutoff = walk(Cutoff(TARGET), 11.9)
    assert cutoff.day == TARGET
    assert walk(cutoff, 0.2).day == TARGET + 1


@pytest.mark.parametrize("days", [-40, 1, 40, 3650])
def test_a_wall_clock_that_jumps_for_a_moment_moves_nothing(days: int) -> None:
    cutoff = walk(Cutoff(TARGET), 5)
    jumped = look(cutoff, NOON_MS + 18_000_000 + days * DAY_MS, 18_000.0, KEEP, None, DAYS)
    assert jumped.day <= TARGET
    back = walk(jumped, 0.5)
    assert back.day <= TARGET


def test_a_process_that_starts_with_a_wrong_clock_moves_nothing_for_an_hour() -> None:
    assert walk(Cutoff(TARGET), 0.99, 40 * DAY_MS).day == TARGET
    assert walk(Cutoff(TARGET), 3.5, 40 * DAY_MS).day == TARGET + 3


def test_it_stays_while_the_clock_is_more_than_a_day_ahead_of_most_events() -> None:
    assert walk(Cutoff(TARGET), 50, 40 * DAY_MS, events_ms=-DAY_MS - 1).day == TARGET
    assert walk(Cutoff(TARGET), 1, 40 * DAY_MS, events_ms=-DAY_MS).day == TARGET + 1
    assert walk(Cutoff(TARGET - 1), 1, 0, events_ms=DAY_MS).day == TARGET


@pytest.mark.parametrize("now_ms", [0, NOON_MS - 4000 * DAY_MS, NOON_MS - DAY_MS])
def test_a_clock_that_is_behind_does_not_take_it_along(now_ms: int) -> None:
    days = range(TARGET, TODAY + 1)
    assert first_cutoff(TARGET, days, now_ms, KEEP) == TARGET
    assert look(Cutoff(TARGET), now_ms, 0.0, KEEP, None, days).day == TARGET
    assert look(Cutoff(TARGET), now_ms, 0.0, KEEP, None, ()).day == TARGET


def test_a_clock_that_is_set_back_is_followed_as_far_as_days_need_it() -> None:
    assert look(Cutoff(TARGET + 9), NOON_MS, 0.0, KEEP, None, DAYS).day == TARGET
    assert look(Cutoff(TARGET + 9), NOON_MS, 0.0, KEEP, None, [TODAY]).day == TARGET
    assert look(Cutoff(TARGET + 9), NOON_MS - 5 * DAY_MS, 0.0, KEEP, None, [TARGET - 3, TODAY]).day == TARGET - 3


@pytest.mark.parametrize("spoiled", [-30, 0, TARGET - 5000])
def test_a_spoiled_one_comes_up_to_the_oldest_day_at_once(spoiled: int) -> None:
    days = range(TARGET - 3, TODAY + 1)
    assert first_cutoff(spoiled, days, NOON_MS, KEEP) == TARGET - 3
    assert look(Cutoff(spoiled), NOON_MS, 0.0, KEEP, None, days).day == TARGET - 3
    # With a clock that is ahead it does not pass what late events need.
    assert look(Cutoff(spoiled), NOON_MS + 400 * DAY_MS, 0.0, KEEP, None, [TODAY]).day == TARGET


def test_clocks_that_drift_apart_within_an_hour_move_nothing() -> None:
    cutoff = Cutoff(TARGET - 3)
    for minute in range(600):
        now_s = minute * 60.0
        drift_ms = minute * AGREEMENT_MS // 30
        cutoff = look(cutoff, NOON_MS + round(now_s * 1000) + drift_ms, now_s, KEEP, None, DAYS)
    assert cutoff.day == TARGET - 3


def test_where_to_begin() -> None:
    assert first_cutoff(None, (), NOON_MS, KEEP) == TARGET
    assert first_cutoff(None, [TARGET - 9, TODAY], NOON_MS, KEEP) == TARGET - 9
    assert first_cutoff(None, [TARGET + 9, TODAY], NOON_MS, KEEP) == TARGET
    assert first_cutoff(TARGET - 2, [TARGET - 9, TODAY], NOON_MS, KEEP) == TARGET - 2
    assert first_cutoff(TARGET + 2, [TARGET - 9, TODAY], NOON_MS, KEEP) == TARGET


steps = st.lists(
    st.tuples(
        st.floats(0, 7200),
        st.sampled_from([0, 0, 0, -TODAY]) | st.integers(-3650, 3650),
        st.none() | st.integers(-3 * DAY_MS, 3 * DAY_MS),
        st.booleans(),
    ),
    max_size=60,
)
some_days = st.sets(st.integers(TODAY - 60, TODAY), min_size=1)


@given(st.integers(TARGET - 50, TARGET), some_days, steps)
def test_whatever_the_clocks_say_it_never_runs(
    begin: int, stored: set[int], looks: list[tuple[float, int, int | None, bool]]
) -> None:
    """At most one stored day an hour of uptime is dropped, and never one that the wall clock would keep then."""
    days = {day for day in stored if day >= begin} | {TODAY}
    cutoff, now_s, dropped = Cutoff(first_cutoff(begin, days, NOON_MS, KEEP)), 0.0, 0
    for elapsed_s, ahead_days, events_ms, restart in looks:
        now_s += elapsed_s
        now_ms = NOON_MS + round(now_s * 1000) + ahead_days * DAY_MS
        if restart:
            cutoff = Cutoff(first_cutoff(cutoff.day, days, now_ms, KEEP))
            assert min(days) >= min(cutoff.day, TODAY)
        cutoff = look(cutoff, now_ms, now_s, KEEP, events_ms, days)
        old = {day for day in days if day < cutoff.day} - {max(days)}
        assert all(day < now_ms // DAY_MS - KEEP for day in old)
        days -= old
        dropped += len(old)
    assert dropped <= now_s / STEP_S


@given(some_days, st.integers(-TODAY, 3650))
def test_one_wrong_start_changes_nothing_afterwards(stored: set[int], ahead_days: int) -> None:
    days = stored | {TODAY}
    begin = first_cutoff(None, days, NOON_MS, KEEP)
    wrong = first_cutoff(begin, days, NOON_MS + ahead_days * DAY_MS, KEEP)
    wrong = look(Cutoff(wrong), NOON_MS + ahead_days * DAY_MS, 0.0, KEEP, None, days).day
    after = first_cutoff(wrong, days, NOON_MS, KEEP)
    kept = [day for day in days if day >= begin]
    assert [day for day in days if day >= after] == kept
    assert after >= begin


@given(st.integers(0, 40), st.floats(1, 600))
def test_with_right_clocks_it_arrives(days: int, every_s: float) -> None:
    cutoff, now_s = Cutoff(TARGET - days), 0.0
    every_s = max(every_s, 60.0)
    while now_s <= (days + 1) * (STEP_S + every_s):
        cutoff = look(cutoff, NOON_MS + round(now_s * 1000), now_s, KEEP, None, DAYS)
        now_s += every_s
    assert cutoff.day >= TARGET
