"""How much is asked of an index: the window, the breaker, the budget and the quota."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.locations.congestion import (
    CLEAN_PROBES,
    MAX_BATCHES,
    MAX_DOCUMENTS,
    MIN_BATCHES,
    MIN_DOCUMENTS,
    PROBE_EVERY_S,
    ROUND_TRIP_S,
    WAIT_S,
    Breaker,
    Quota,
    RetryBudget,
    Way,
    Window,
)


def test_a_full_window_grows_by_one_a_round_trip_and_an_idle_one_does_not() -> None:
    window = Window()
    assert window.batches == 2
    for _ in range(2):
        window.taken(0.0, 0.1, 1, full=True)
    assert window.batches == 3
    for _ in range(100):
        window.taken(0.0, 0.1, 1, full=False)
    assert window.batches == 3


def test_it_is_halved_once_a_round_trip() -> None:
    window = Window()
    for _ in range(1000):
        window.taken(0.0, 0.1, 1, full=True)
    assert window.batches == MAX_BATCHES
    for now_s in (10.0, 10.01, 10.02):
        window.refused(now_s)
    assert window.batches == MAX_BATCHES // 2
    window.refused(10.2)
    assert window.batches == MAX_BATCHES // 4


def test_a_slow_round_trip_takes_a_tenth() -> None:
    window = Window()
    for _ in range(1000):
        window.taken(0.0, 0.1, 1, full=True)
    window.taken(0.0, 1.0, 1, full=True)
    assert window.batches == int(MAX_BATCHES * 0.9)


@pytest.mark.parametrize("documents_per_s", [100, 500, 2000])
def test_batches_become_as_small_as_an_index_answers_in_time(documents_per_s: int) -> None:
    window = Window(another_way=True)
    now_s = 0.0
    for _ in range(200):
        # One that works through what it is sent, batch after batch.
        round_trip_s = 0.01 + window.batches * window.documents / documents_per_s
        now_s += round_trip_s
        window.taken(now_s, round_trip_s, window.documents, full=True)
    assert 0.01 + window.batches * window.documents / documents_per_s <= max(1.5 * ROUND_TRIP_S, 51 / documents_per_s)
    assert window.waiting <= max(documents_per_s * (WAIT_S + ROUND_TRIP_S), MIN_DOCUMENTS)
    for _ in range(200):
        now_s += 0.01
        window.taken(now_s, 0.01, window.documents, full=True)
    assert (window.batches, window.documents) == (MAX_BATCHES, MAX_DOCUMENTS)


def test_late_answers_of_one_moment_make_batches_smaller_once() -> None:
    window = Window(another_way=True)
    for now_s in (10.0, 10.01, 10.02):
        window.taken(now_s, 1.0, MAX_DOCUMENTS, full=True)
    assert window.documents == 700


def test_where_there_is_no_other_way_batches_stay_large_and_many() -> None:
    window = Window()
    for number in range(1000):
        window.taken(float(number), 2.0, window.documents, full=True)
    assert (window.batches, window.documents) == (MAX_BATCHES, MAX_DOCUMENTS)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.booleans())))
def test_it_stays_within_its_bounds(seen: list[tuple[bool, float, bool]]) -> None:
    window = Window()
    now_s = 0.0
    for good, seconds, full in seen:
        now_s += seconds
        if good:
            window.taken(now_s, seconds, 1000, full=full)
        else:
            window.refused(now_s)
        assert MIN_BATCHES <= window.batches <= MAX_BATCHES
        assert MIN_DOCUMENTS <= window.documents <= MAX_DOCUMENTS
        assert window.waiting >= window.documents


def test_the_breaker_opens_at_the_third_bad_batch_in_a_row() -> None:
    breaker = Breaker()
    for refused in (5, 10, 4, 5, 5):
        assert breaker.way(0.0) is Way.DIRECT
        breaker.seen(Way.DIRECT, refused, 10, 0.0, 1.0)
    assert not breaker.open
    breaker.seen(Way.DIRECT, 10, 10, 0.0, 1.0)
    assert breaker.open
    assert breaker.way(1.5) is Way.NOT


def test_what_is_refused_in_one_moment_leaves_the_window_time_to_help() -> None:
    breaker = Breaker()
    for number in range(16):
        breaker.seen(Way.DIRECT, 10, 10, number / 100, 0.05 + number / 100)
    assert not breaker.open
    breaker.seen(Way.DIRECT, 4, 10, 0.3, 0.6)
    for now_s in (0.7, 0.8, 0.9, 1.0):
        breaker.seen(Way.DIRECT, 10, 10, now_s - 0.05, now_s)
    assert not breaker.open
    breaker.seen(Way.DIRECT, 10, 10, 1.1, 1.2)
    assert breaker.open


def test_batches_without_an_answer_open_it_at_once() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.seen(Way.DIRECT, 10, 10, 0.0, 10.0)
    assert breaker.open


def test_five_clean_probes_a_second_apart_close_it() -> None:
    breaker = Breaker()
    breaker.trip(0.0)
    now_s = 0.0
    for number in range(CLEAN_PROBES):
        assert breaker.open, number
        assert breaker.way(now_s) is Way.NOT
        now_s += PROBE_EVERY_S
        assert breaker.way(now_s) is Way.PROBE
        breaker.seen(Way.PROBE, 0, 10, now_s, now_s)
    assert not breaker.open
    assert breaker.way(now_s) is Way.DIRECT


def test_a_bad_probe_starts_the_count_anew_and_late_answers_do_not_count() -> None:
    breaker = Breaker()
    breaker.trip(0.0)
    for now_s in range(1, CLEAN_PROBES):
        assert breaker.way(now_s) is Way.PROBE
        breaker.seen(Way.PROBE, 0, 10, now_s, now_s)
        breaker.seen(Way.DIRECT, 10, 10, now_s, now_s)
    assert breaker.way(10) is Way.PROBE
    breaker.seen(Way.PROBE, 10, 10, 10, 10)
    for now_s in range(11, 11 + CLEAN_PROBES):
        assert breaker.open
        assert breaker.way(now_s) is Way.PROBE
        breaker.seen(Way.PROBE, 0, 10, now_s, now_s)
    assert not breaker.open


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5000))))
def test_retries_are_a_tenth_and_a_reserve(steps: list[tuple[bool, int]]) -> None:
    budget = RetryBudget(0.1, 4000)
    sent = again = 0
    for fresh, number in steps:
        if fresh:
            budget.sent(number)
            sent += number
        elif budget.take(number):
            again += number
        assert again <= sent * 0.1 + 4000 + 1e-6


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 3))))
def test_a_quota_lets_through_its_rate_and_a_second_more(takes: list[tuple[int, float]]) -> None:
    quota = Quota(1000)
    now_s, taken = 0.0, 0
    for size, later_s in takes:
        now_s += later_s
        if quota.take(size, now_s):
            taken += size
        assert taken <= 1000 * now_s + 1000 + 1e-6
