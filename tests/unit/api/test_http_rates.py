"""Rates of devices over HTTP."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.api import http_rates
from gateway.api.http_rates import HttpRates

KEY = ("acme", "lamp")


def test_a_burst_then_the_rate() -> None:
    rates, now_s = HttpRates(50, 500, 0, 0), 1000.0
    for _ in range(50):
        assert rates.wait_s(KEY, now_s) == 0
        rates.spend(KEY, now_s, 10, 0)
    assert rates.wait_s(KEY, now_s) == 0, "just at the burst"
    rates.spend(KEY, now_s, 500, 0)
    assert rates.wait_s(KEY, now_s) == 10
    assert rates.wait_s(KEY, now_s + 9.9) == 1
    assert rates.wait_s(KEY, now_s + 10) == 0
    assert rates.limited == 2


def test_bytes_count_as_well() -> None:
    rates = HttpRates(0, 0, 1000, 5000)
    rates.spend(KEY, 0, 500, 5000)
    assert rates.wait_s(KEY, 0) == 0
    rates.spend(KEY, 0, 500, 2500)
    assert rates.wait_s(KEY, 0) == 3


def test_a_body_larger_than_the_burst_is_possible_at_rest() -> None:
    rates = HttpRates(10, 100, 0, 0)
    assert rates.wait_s(KEY, 0) == 0
    rates.spend(KEY, 0, 500, 0)
    assert rates.wait_s(KEY, 0) == 40


def test_devices_and_accounts_do_not_pay_for_each_other() -> None:
    rates = HttpRates(1, 1, 1, 1)
    rates.spend(KEY, 0, 100, 100)
    assert rates.wait_s(KEY, 0) > 0
    assert rates.wait_s(("acme", "other"), 0) == 0
    assert rates.wait_s(("other", "lamp"), 0) == 0


def test_no_rate_is_no_limit() -> None:
    rates = HttpRates(0, 1, 0, 1)
    for _ in range(100):
        rates.spend(KEY, 0, 10**6, 10**9)
    assert rates.wait_s(KEY, 0) == 0


def test_the_table_is_bounded_and_forgets_the_oldest() -> None:
    rates = HttpRates(1, 1, 0, 0)
    rates.spend(("a", "first"), 0, 1000, 0)
    for number in range(http_rates._MAX_DEVICES):
        rates.spend(("a", f"{number}"), 0, 1000, 0)
    assert len(rates._arrivals) == http_rates._MAX_DEVICES
    assert rates.wait_s(("a", "first"), 0) == 0
    assert rates.wait_s(("a", "7"), 0) > 0


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 500)), max_size=50))
def test_no_more_than_burst_and_rate_and_one_body(sent: list[tuple[float, int]]) -> None:
    rates, now_s, taken = HttpRates(50, 500, 0, 0), 0.0, 0
    for pause_s, events in sent:
        now_s += pause_s
        if rates.wait_s(KEY, now_s) == 0:
            rates.spend(KEY, now_s, events, 0)
            taken += events
    assert taken <= 500 + 50 * now_s + 500 + 1


@given(st.floats(0, 1e6), st.integers(0, 10**6))
def test_who_waits_as_told_may_send(now_s: float, events: int) -> None:
    rates = HttpRates(50, 500, 0, 0)
    rates.spend(KEY, now_s, events, 0)
    wait_s = rates.wait_s(KEY, now_s)
    assert rates.wait_s(KEY, now_s + wait_s) == 0
