"""When the key set is read again, and how long an old one counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.key_freshness import REFRESH_S, UNKNOWN_KEY_S, Freshness

DAY_S = 86_400.0


def test_it_is_read_at_once_and_then_now_and_then() -> None:
    times = Freshness(DAY_S, 1000)
    assert times.due_s == 1000
    assert not times.counts(1000)
    times.asked(1000)
    times.succeeded(1001, 0.5)
    assert times.due_s == 1001 + REFRESH_S
    assert times.counts(1001 + DAY_S)
    assert not times.counts(1002 + DAY_S)


def test_failures_back_off_and_keep_the_set() -> None:
    times = Freshness(DAY_S, 0)
    times.succeeded(0, 0)
    pauses = []
    for _ in range(6):
        times.failed(100, 1)
        pauses.append(times.due_s - 100)
    assert pauses == [5, 10, 20, 40, 60, 60]
    assert times.counts(DAY_S)
    times.succeeded(200, 0)
    times.failed(300, 1)
    assert times.due_s == 305


def test_an_unknown_key_asks_once_a_minute() -> None:
    times = Freshness(DAY_S, 0)
    times.asked(10)
    times.succeeded(10, 0.5)
    for now_s in (11, 12, 60):
        times.unknown_key(now_s)
        assert times.due_s == 10 + UNKNOWN_KEY_S
    times.asked(70)
    times.succeeded(70, 0.5)
    times.unknown_key(200)
    assert times.due_s == 200


def test_a_stored_set_is_as_old_as_it_is() -> None:
    times = Freshness(DAY_S, 0)
    assert times.stored(500, DAY_S - 10)
    assert times.counts(509)
    assert not times.counts(511)
    assert times.due_s == 0, "it is read anew at once"
    assert not Freshness(DAY_S, 0).stored(500, DAY_S + 1)
    later = Freshness(DAY_S, 0)
    assert later.stored(500, -1e9), "the clock went back: it is not older than now"
    assert later.fetched_s == 500


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["unknown", "failed", "succeeded"])), max_size=60))
def test_never_more_often_than_a_minute_without_a_failure(steps: list[tuple[float, str]]) -> None:
    times, now_s, asked, failed = Freshness(DAY_S, 0), 0.0, -1e9, False
    for pause_s, step in steps:
        now_s += pause_s
        if step == "unknown":
            times.unknown_key(now_s)
        if now_s >= times.due_s:
            assert failed or now_s - asked >= UNKNOWN_KEY_S - 1e-6
            times.asked(now_s)
            asked, failed = now_s, step == "failed"
            (times.failed if failed else times.succeeded)(now_s, 0.0)
