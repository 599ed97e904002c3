"""What polls mean: every line of the table in the design, for one group and for several."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drain.health import GroupHealth, TargetState
from gateway.drain.signals import Presence, Watch, peers, presence
from gateway.drain.states import Signal

NOTHING = [
    TargetState.UNHEALTHY,
    TargetState.UNHEALTHY_DRAINING,
    TargetState.UNUSED,
    TargetState.UNAVAILABLE,
]
HEALTHY, INITIAL, DRAINING = TargetState.HEALTHY, TargetState.INITIAL, TargetState.DRAINING


def told(*polls: TargetState | None) -> list[Signal | None]:
    """The signals of a watch that sees one group."""
    watch = Watch()
    return [watch.judge(float(number), [state]) for number, state in enumerate(polls)]


def test_not_registered_and_never_was() -> None:
    assert told(None, None) == [None, None]


def test_registered_then_draining() -> None:
    assert told(None, INITIAL, HEALTHY, DRAINING, None) == [
        None,
        Signal.REGISTERED,
        Signal.RETURNED,
        Signal.WITHDRAWN,
        None,
    ]


def test_gone_without_draining_is_an_emergency() -> None:
    assert told(HEALTHY, None) == [Signal.REGISTERED, Signal.LOST]


def test_one_healthy_answer_does_not_take_a_drain_back_two_do() -> None:
    assert told(HEALTHY, DRAINING, HEALTHY, DRAINING, INITIAL, HEALTHY)[2:] == [
        Signal.REGISTERED,
        Signal.WITHDRAWN,
        Signal.REGISTERED,
        Signal.RETURNED,
    ]


def test_after_a_reversal_a_loss_is_a_loss_again() -> None:
    assert told(HEALTHY, DRAINING, HEALTHY, HEALTHY, None)[-1] is Signal.LOST


def test_the_drain_of_the_task_that_had_the_address_before_is_not_ours() -> None:
    assert told(DRAINING, DRAINING, INITIAL, DRAINING) == [None, None, Signal.REGISTERED, Signal.WITHDRAWN]


@pytest.mark.parametrize("state", NOTHING)
def test_states_that_mean_nothing_for_a_drain(state: TargetState) -> None:
    assert told(HEALTHY, state, state) == [Signal.REGISTERED, None, None]
    assert told(HEALTHY, DRAINING, state) == [Signal.REGISTERED, Signal.WITHDRAWN, None]


@pytest.mark.parametrize(
    ("polls", "registered_s"),
    [
        ([None, DRAINING], None),
        ([TargetState.UNHEALTHY, DRAINING], None),
        ([HEALTHY, DRAINING], 0),
        ([HEALTHY, TargetState.UNHEALTHY, DRAINING], 1),
        ([HEALTHY, DRAINING, TargetState.UNHEALTHY, DRAINING], 0),
        ([HEALTHY, DRAINING, HEALTHY, TargetState.UNHEALTHY], 3),
        ([HEALTHY, None, None], 0),
    ],
)
def test_the_time_counts_from_the_last_poll_before_the_drain(
    polls: list[TargetState | None], registered_s: float | None
) -> None:
    watch = Watch()
    for asked_s, state in enumerate(polls):
        watch.judge(asked_s, [state])
    assert watch.registered_s == registered_s


@pytest.mark.parametrize(
    ("states", "found"),
    [
        ([HEALTHY, DRAINING], Presence.GOOD),
        ([INITIAL, DRAINING], Presence.GOOD),
        ([None, DRAINING], Presence.DRAINING),
        ([TargetState.UNHEALTHY, DRAINING], Presence.DRAINING),
        ([None, TargetState.UNUSED], Presence.OTHER),
        ([None, None], Presence.ABSENT),
    ],
)
def test_several_groups(states: list[TargetState | None], found: Presence) -> None:
    assert presence(states) is found


@given(st.lists(st.sampled_from([None, *TargetState])))
def test_nothing_drains_that_was_never_seen_good(polls: list[TargetState | None]) -> None:
    signals = told(*polls)
    good = next((number for number, state in enumerate(polls) if state in (HEALTHY, INITIAL)), len(polls))
    assert all(signal is None for signal in signals[:good])
    for state, signal in zip(polls, signals, strict=True):
        assert (signal is Signal.WITHDRAWN) <= (state is DRAINING)
        assert (signal is Signal.LOST) <= (state is None)


def test_peers_are_counted_once() -> None:
    blue = GroupHealth(DRAINING, {"10.0.0.1:80": DRAINING, "10.0.0.2:80": HEALTHY})
    green = GroupHealth(None, {"10.0.0.3:80": HEALTHY, "10.0.0.2:80": DRAINING, "10.0.0.4:80": INITIAL})
    counted = peers([blue, green])
    assert (counted.healthy, counted.draining, counted.total) == (2, 1, 4)
    assert counted.states == {HEALTHY: 2, DRAINING: 1, INITIAL: 1}
