from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.device.reconnect import (
    LAST_CEILING_S,
    MAX_OBEYED_S,
    MIN_WAIT_S,
    REFUSED_FLOOR_S,
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
    assert MIN_WAIT_S <= backoff_s(failures, Random(seed)) <= ceiling_s(failures)


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
def test_a_dead_token_is_replaced_soon_by_who_can(code: int) -> None:
    first = after_close(code, "", mints=True, failures=0, random=RANDOM)
    assert first == Return(MIN_WAIT_S, new_token=True)
    again = after_close(code, "", mints=True, failures=30, random=RANDOM)
    assert isinstance(again, Return)
    assert again.new_token
    assert again.wait_s > MIN_WAIT_S
    stopped = after_close(code, "expired", mints=False, failures=0, random=RANDOM)
    assert isinstance(stopped, Stop)
    assert "--token" in stopped.why
    assert "expired" in stopped.why


def goaway(reason: str, wait_ms: int, *, mints: bool = False, failures: int = 0) -> Return | Stop:
    return after_goaway(reason, wait_ms, mints=mints, failures=failures, random=RANDOM)


def test_goaway_is_obeyed() -> None:
    assert goaway("drain", 1500) == Return(1.5)
    assert goaway("shutdown", 0) == Return(MIN_WAIT_S)
    assert goaway("max_age", 2**53) == Return(MAX_OBEYED_S)
    assert goaway("token_expired", 200, mints=True) == Return(0.2, new_token=True)
    assert isinstance(goaway("token_expired", 100), Stop)
    assert isinstance(goaway("replaced", 0, mints=True), Stop)


def test_goaway_every_time_is_a_failure() -> None:
    waits = [goaway("drain", 0, failures=5) for _ in range(100)]
    assert max(wait.wait_s for wait in waits if isinstance(wait, Return)) > 10


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token(status: int) -> None:
    first = after_refusal(status, "expired", None, mints=True, failures=0, random=RANDOM)
    assert first == Return(MIN_WAIT_S, new_token=True)
    # Also after the server was away for a while: the token expired meanwhile.
    later = after_refusal(status, "expired", None, mints=True, failures=7, random=RANDOM)
    assert isinstance(later, Return)
    assert later.new_token
    action = after_refusal(status, "why", None, mints=False, failures=0, random=RANDOM)
    assert isinstance(action, Stop)
    assert f"HTTP {status}: why" in action.why


@pytest.mark.parametrize("status", [200, 301, 302, 400, 404, 408, 409, 418, 426, 429, 500, 502, 503, 505, 599])
@given(failures=st.integers(0, 10**6), seed=st.integers())
def test_every_other_refusal_is_waited_out(status: int, failures: int, seed: int) -> None:
    action = after_refusal(status, "", None, mints=False, failures=failures, random=Random(seed))
    assert isinstance(action, Return)
    assert REFUSED_FLOOR_S <= action.wait_s <= LAST_CEILING_S
    asked = after_refusal(status, "", 45.0, mints=False, failures=failures, random=Random(seed))
    assert asked == Return(45.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["5"], 5.0),
        ([" 0 "], 0.0),
        (["0000000000000000007"], 7.0),
        (["99999999999999"], MAX_OBEYED_S),
        (["9" * 5000], MAX_OBEYED_S),
        ([], None),
        ([""], None),
        (["-1"], None),
        (["1.5"], None),
        (["1e3"], None),
        (["Wed, 21 Oct 2026 07:28:00 GMT"], None),
        (["٣"], None),
        (["5", "17"], 17.0),
        (["5, 17"], None),
        (["nonsense", "3", ""], 3.0),
    ],
)
def test_retry_after(values: list[str], expected: float | None) -> None:
    assert retry_after_s(values) == expected


@given(st.lists(st.text()))
def test_retry_after_is_never_absurd(values: list[str]) -> None:
    assert 0 <= (retry_after_s(values) or 0) <= MAX_OBEYED_S
