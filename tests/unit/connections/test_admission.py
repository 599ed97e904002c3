"""Who may come in, and how long a flapping device is held off."""

from __future__ import annotations

import random

import pytest

from gateway.connections import admission
from gateway.connections.admission import Admission, FlapGuard, retry_after_s
from gateway.rate import TokenBucket
from gateway.wire.refusal import Refusal

NO_FLAPS = FlapGuard(0, 60)


def _admission(**state: object) -> Admission:
    return Admission(10, 5, TokenBucket(0, 1, 0.0), NO_FLAPS, **state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"open": 10, "pending": 5}, None),
        ({"open": 11}, admission.AT_MAXIMUM),
        ({"pending": 6}, admission.TOO_MANY_PENDING),
        ({"memory_low": True}, admission.OUT_OF_MEMORY),
        ({"draining": True, "open": 11, "memory_low": True}, admission.DRAINING),
    ],
)
def test_at_accept(state: dict[str, object], expected: Refusal | None) -> None:
    assert _admission(**state).at_accept(0.0) is expected


def test_the_rate_of_handshakes() -> None:
    counts = Admission(10, 5, TokenBucket(2, 2, 0.0), NO_FLAPS)
    assert [counts.at_accept(0.0) for _ in range(3)] == [None, None, admission.TOO_FAST]
    assert counts.at_accept(0.5) is None
    assert counts.at_accept(0.5) is admission.TOO_FAST


def test_a_refused_connection_takes_no_token() -> None:
    counts = Admission(0, 5, TokenBucket(1, 1, 0.0), NO_FLAPS, open=1)
    for _ in range(10):
        assert counts.at_accept(0.0) is admission.AT_MAXIMUM
    counts.open = 0
    assert counts.at_accept(0.0) is None


def test_the_time_to_stay_away_is_spread() -> None:
    drawn = {retry_after_s(random.Random(seed)) for seed in range(200)}
    assert min(drawn) >= 2
    assert max(drawn) <= 20
    assert len(drawn) > 10


def test_flapping() -> None:
    guard = FlapGuard(3, 60)
    assert [guard.admit("a", "d", float(second)) for second in range(3)] == [0, 0, 0]
    assert guard.admit("a", "d", 3.0) == 60
    assert guard.admit("a", "d", 33.0) == 30
    assert guard.admit("a", "d", 63.0) == 0


def test_the_hold_off_is_not_made_longer_by_trying() -> None:
    guard = FlapGuard(1, 60)
    guard.admit("a", "d", 0.0)
    assert [guard.admit("a", "d", float(second)) for second in (1, 20, 40, 60)] == [60, 41, 21, 1]
    assert guard.admit("a", "d", 61.0) == 0


def test_a_calm_device_is_never_held_off() -> None:
    guard = FlapGuard(3, 60)
    assert not any(guard.admit("a", "d", second * 21.0) for second in range(100))


def test_devices_and_accounts_are_counted_apart() -> None:
    guard = FlapGuard(1, 60)
    assert guard.admit("a", "d", 0.0) == 0
    assert guard.admit("b", "d", 0.0) == 0
    assert guard.admit("a", "e", 0.0) == 0
    assert guard.admit("a", "d", 0.0) == 60


def test_no_limit() -> None:
    guard = FlapGuard(0, 60)
    assert not any(guard.admit("a", "d", 0.0) for _ in range(100))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_MAX_FLAPPING", 100)
    guard = FlapGuard(1, 60)
    for number in range(1000):
        guard.admit("a", f"d{number}", 0.0)
    assert len(guard._seen) <= 100
    assert guard.admit("a", "d0", 0.0) == 0, "the oldest is forgotten"
    assert guard.admit("a", "d999", 0.0) == 60, "the newest is not"
    guard.admit("a", "late", 1000.0)
    assert len(guard._seen) == 1
