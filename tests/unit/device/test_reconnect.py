from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.device.reconnect import (
    LAST_CEILING_S,
    MAX_OBEYED_S,
    Return,
    Stop,
    after_close,
    after_goaway,
    after_refusal,
    backoff_s,
    ceiling_s,
    retry_after_s,
)

RANDOM = Random(1)


def test_ceilings_double_up_to_the_last() -> None:
    assert [ceiling_s(failures) for failures in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert ceiling_s(10**9) == LAST_CEILING_S


@given(st.integers(0, 10**9), st.integers())
def test_backoff_is_within_its_ceiling(failures: int, seed: int) -> None:
    assert 0 <= backoff_s(failures, Random(seed)) <= ceiling_s(failures)


def test_backoff_spreads() -> None:
    waits = [backoff_s(5, RANDOM) for _ in range(1000)]
    assert min(waits) < 3
    assert max(waits) > 27


@pytest.mark.parametrize("code", [1008, 4409])
def test_some_ends_are_final(code: int) -> None:
    assert isinstance(after_close(code, "", mints=True, failures=0, random=RANDOM), Stop)


@pytest.mark.parametrize("code", [None, 1000, 1001, 1011, 1012, 1013, 4408, 4429, 4503, 3999])
def test_others_come_back(code: int | None) -> None:
    action = after_close(code, "", mints=False, failures=0, random=RANDOM)
    assert isinstance(action, Return)
    assert not action.new_token


@pytest.mark.parametrize("code", [4401, 4403])
def test_a_dead_token_is_replaced_once_at_once_by_who_can(code: int) -> None:
    assert after_close(code, "", mints=True, failures=0, random=RANDOM) == Return(0.0, new_token=True)
    again = after_close(code, "", mints=True, failures=3, random=RANDOM)
    assert isinstance(again, Return)
    assert again.new_token
    assert again.wait_s > 0
    stopped = after_close(code, "expired", mints=False, failures=0, random=RANDOM)
    assert isinstance(stopped, Stop)
    assert "--token" in stopped.why
    assert "expired" in stopped.why


def test_goaway_is_obeyed() -> None:
    assert after_goaway("drain", 1500, mints=False) == Return(1.5)
    assert after_goaway("shutdown", -5, mints=False) == Return(0.0)
    assert after_goaway("max_age", 10**12, mints=False) == Return(MAX_OBEYED_S)
    assert after_goaway("token_expired", 100, mints=True) == Return(0.1, new_token=True)
    assert isinstance(after_goaway("token_expired", 100, mints=False), Stop)
    assert isinstance(after_goaway("replaced", 0, mints=True), Stop)


def test_a_refused_token() -> None:
    assert after_refusal(401, "expired", None, mints=True, failures=0, random=RANDOM) == Return(0.0, new_token=True)
    for status, mints, failures in ((401, True, 1), (401, False, 0), (403, True, 0), (403, False, 0)):
        action = after_refusal(status, "why", None, mints=mints, failures=failures, random=RANDOM)
        assert isinstance(action, Stop)
        assert f"HTTP {status}: why" in action.why


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503])
def test_overload_is_waited_out(status: int) -> None:
    action = after_refusal(status, "", 17.0, mints=False, failures=0, random=RANDOM)
    assert action == Return(17.0)
    hurried = after_refusal(status, "", None, mints=False, failures=0, random=RANDOM)
    assert isinstance(hurried, Return)
    assert hurried.wait_s >= 1.0


@pytest.mark.parametrize("status", [200, 302, 400, 404, 426])
def test_what_is_no_gateway_is_left_alone(status: int) -> None:
    assert isinstance(after_refusal(status, "", None, mints=True, failures=0, random=RANDOM), Stop)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("5", 5.0),
        (" 0 ", 0.0),
        ("99999999999999", MAX_OBEYED_S),
        (None, None),
        ("", None),
        ("-1", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("٣", None),
    ],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    assert retry_after_s(header) == expected
