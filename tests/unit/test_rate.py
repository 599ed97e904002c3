"""Rates with the time as an argument."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.rate import TokenBucket, next_arrival

gaps = st.lists(st.floats(0, 3), min_size=1, max_size=200)


@given(gaps, st.floats(0.1, 20), st.integers(1, 20))
def test_gcra_lets_no_more_through_than_burst_and_rate(waits: list[float], rate: float, burst: int) -> None:
    now_s = arrival_s = 100.0
    passed = []
    for wait_s in waits:
        now_s += wait_s
        expected = next_arrival(arrival_s, now_s, 1 / rate)
        if expected - now_s <= burst / rate + 1e-9:
            arrival_s = expected
            passed.append(now_s)
    for first, start_s in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - start_s) * rate + 1e-3


def test_gcra_forgets_idle_time() -> None:
    assert next_arrival(10.0, 1000.0, 0.5) == 1000.5
    assert next_arrival(1000.5, 1000.0, 0.5) == 1001.0


@given(gaps, st.floats(0.1, 20), st.integers(1, 20))
def test_a_bucket_gives_no_more_than_burst_and_rate(waits: list[float], rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst, 100.0)
    now_s, taken = 100.0, 0
    for wait_s in waits:
        now_s += wait_s
        taken += bucket.take(now_s)
        assert taken <= burst + (now_s - 100.0) * rate + 1e-6


def test_a_bucket_saves_no_more_than_its_burst() -> None:
    bucket = TokenBucket(10, 3, 0.0)
    assert [bucket.take(1000.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(9000.0) for _ in range(4)] == [True, True, True, False]


def test_a_bucket_ignores_a_clock_that_goes_back() -> None:
    bucket = TokenBucket(1, 1, 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.0)


def test_rate_0_is_no_limit() -> None:
    bucket = TokenBucket(0, 1, 0.0)
    assert all(bucket.take(0.0) for _ in range(100))
