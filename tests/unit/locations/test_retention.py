import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.locations.event import DAY_MS
from gateway.locations.retention import AGREEMENT_MS, STEP_S, Cutoff, first_cutoff, look
from tests.support.locations import NOON_MS

TODAY = NOON_MS // DAY_MS
KEEP = 30
TARGET = TODAY - KEEP


def walk(cutoff: Cutoff, hours: float, ahead_ms: int = 0, events_ms: int | None = None, step_s: float = 60.0) -> Cutoff:
    """So many hours of looks, with a wall clock that is this far ahead of the right one."""
    began_s = cutoff.looked_s or 0.0
    for number in range(int(hours * 3600 / step_s) + 1):
        now_s = began_s + number * step_s
        cutoff = look(cutoff, NOON_MS + ahead_ms + round(now_s * 1000), now_s, KEEP, events_ms)
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
    jumped = look(cutoff, NOON_MS + 18_000_000 + days * DAY_MS, 18_000.0, KEEP, None)
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


def test_a_clock_that_is_set_back_is_followed_at_once() -> None:
    assert look(Cutoff(TARGET + 9), NOON_MS, 0.0, KEEP, None).day == TARGET


def test_clocks_that_drift_apart_within_an_hour_move_nothing() -> None:
    cutoff = Cutoff(TARGET - 3)
    for minute in range(600):
        now_s = minute * 60.0
        drift_ms = minute * AGREEMENT_MS // 30
        cutoff = look(cutoff, NOON_MS + round(now_s * 1000) + drift_ms, now_s, KEEP, None)
    assert cutoff.day == TARGET - 3


def test_where_to_begin() -> None:
    assert first_cutoff(None, None, NOON_MS, KEEP) == TARGET
    assert first_cutoff(None, TARGET - 9, NOON_MS, KEEP) == TARGET - 9
    assert first_cutoff(None, TARGET + 9, NOON_MS, KEEP) == TARGET
    assert first_cutoff(TARGET - 2, TARGET - 9, NOON_MS, KEEP) == TARGET - 2
    assert first_cutoff(TARGET + 2, TARGET - 9, NOON_MS, KEEP) == TARGET


steps = st.lists(
    st.tuples(st.floats(0, 7200), st.integers(-3650, 3650), st.none() | st.integers(-3 * DAY_MS, 3 * DAY_MS)),
    max_size=60,
)


@given(st.integers(TARGET - 50, TARGET), steps)
def test_whatever_the_clocks_say_it_never_runs(begin: int, looks: list[tuple[float, int, int | None]]) -> None:
    """At most one day an hour of uptime, and never beyond what the wall clock says at that moment."""
    cutoff, now_s, highest = Cutoff(begin), 0.0, begin
    for elapsed_s, ahead_days, events_ms in looks:
        now_s += elapsed_s
        now_ms = NOON_MS + round(now_s * 1000) + ahead_days * DAY_MS
        after = look(cutoff, now_ms, now_s, KEEP, events_ms)
        assert after.day <= now_ms // DAY_MS - KEEP
        assert after.day <= cutoff.day + 1
        highest = max(highest, after.day)
        cutoff = after
    assert highest - begin <= now_s / STEP_S


@given(st.integers(0, 40), st.floats(1, 600))
def test_with_right_clocks_it_arrives(days: int, every_s: float) -> None:
    cutoff, now_s = Cutoff(TARGET - days), 0.0
    every_s = max(every_s, 60.0)
    while now_s <= (days + 1) * (STEP_S + every_s):
        cutoff = look(cutoff, NOON_MS + round(now_s * 1000), now_s, KEEP, None)
        now_s += every_s
    assert cutoff.day >= TARGET
