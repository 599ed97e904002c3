"""Windows and deadlines by who asked; poll periods and pauses."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drain import polling, window
from gateway.drain.states import Signal
from gateway.errors import CallErrorKind


@pytest.mark.parametrize(
    ("delay_s", "period_s", "expected"),
    [(300, 5, 279), (600, 5, 579), (3600, 120, 3441), (30, 5, 9), (10, 5, 5), (0, 5, 5)],
)
def test_the_default_window(delay_s: float, period_s: float, expected: float) -> None:
    assert window.longest_s(delay_s, 15, period_s) == expected


def test_a_window_longer_than_the_delay_is_shortened() -> None:
    assert window.window_s(1000, 279) == 279
    assert window.window_s(60, 279) == 60
    assert window.window_s(0, 279) == 279


def test_the_margin_leaves_time_for_the_closing_handshake() -> None:
    assert window.margin_s(15, 5) == 15
    assert window.margin_s(15, 20) == 40


def test_deadlines() -> None:
    deadline = window.deadline_s
    assert deadline(Signal.WITHDRAWN, 1005, 1000, 279, 300, 15) == 1284
    # The last good poll was long ago: the delay may have begun right after it.
    assert deadline(Signal.WITHDRAWN, 1100, 1000, 279, 300, 15) == 1285
    assert deadline(Signal.WITHDRAWN, 2000, 1000, 279, 300, 15) == 2005
    assert deadline(Signal.WITHDRAWN, 1005, 1000, 5, 0, 15) == 1010
    assert deadline(Signal.LOST, 1005, 1000, 279, 300, 15) == 1010


@pytest.mark.parametrize(
    ("connections", "stop_timeout_s", "registered", "expected"),
    [
        (1, 30, None, 1),
        (2000, 30, None, 10),
        (100_000, 30, None, 20),
        (100_000, 30, False, 5),
        (100_000, 30, True, 20),
        (100_000, 120, True, 110),
        (10, 5, True, 1),
    ],
)
def test_at_sigterm(connections: int, stop_timeout_s: float, registered: bool | None, expected: float) -> None:
    assert window.stop_window_s(connections, stop_timeout_s, registered) == expected


@pytest.mark.parametrize(
    ("connections", "window_s", "bound_per_s", "expected"),
    [
        (15_000, 300, 200, 0),
        (15_000, 75, 200, 0),
        (15_000, 5, 200, 70),
        (100, 5, 0, 120),
        (100, 5, 1e9, 0),
        (0, 5, 0, 0),
    ],
)
def test_those_whom_the_receivers_cannot_take_come_back_later(
    connections: int, window_s: float, bound_per_s: float, expected: float
) -> None:
    assert window.spread_s(connections, window_s, bound_per_s) == expected


@given(st.integers(0, 100_000), st.integers(1, 5))
def test_a_fleet_stays_within_its_share_of_the_calls(tasks: int, groups: int) -> None:
    period_s = polling.period_s(tasks, groups)
    assert polling.MIN_PERIOD_S <= period_s <= polling.MAX_PERIOD_S
    if tasks * groups <= 240:
        assert tasks * groups / period_s <= 2
    chance = Random(1)
    assert all(0.8 * period_s <= polling.pause_s(period_s, chance) <= 1.2 * period_s for _ in range(20))


def test_throttled_pauses_grow_and_spread() -> None:
    chance = Random(1)
    pauses = [
        [polling.retry_s(CallErrorKind.THROTTLED, 50, failures, chance) for _ in range(200)] for failures in (1, 2)
    ]
    assert [(round(min(found), -1), round(max(found), -1)) for found in pauses] == [(0, 50), (0, 100)]
    later = [polling.retry_s(CallErrorKind.THROTTLED, 50, failures, chance) for failures in range(3, 50)]
    assert max(later) <= 100


@pytest.mark.parametrize("kind", sorted(set(CallErrorKind) - {CallErrorKind.THROTTLED, CallErrorKind.UNREACHABLE}))
def test_what_time_does_not_mend_is_asked_for_rarely(kind: CallErrorKind) -> None:
    assert 48 <= polling.retry_s(kind, 5, 3, Random(1)) <= 72


def test_who_cannot_be_reached_is_asked_half_as_often_each_time_down_to_once_a_minute() -> None:
    unreachable = CallErrorKind.UNREACHABLE
    for failures, pause_s in ((1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60), (10_000, 60)):
        assert 0.8 * pause_s <= polling.retry_s(unreachable, 5, failures, Random(1)) <= 1.2 * pause_s
    assert 0.8 * 120 <= polling.retry_s(unreachable, 120, 3, Random(1)) <= 1.2 * 120
