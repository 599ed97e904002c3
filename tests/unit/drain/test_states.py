"""The table of states: every way through it, and everything that is none."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drain.states import MEANINGS, TABLE, Signal, State, diagram, follow, is_leaving
from gateway.errors import IllegalTransitionError


@pytest.mark.parametrize(("state", "signal"), sorted(set(product(State, Signal)) - set(TABLE)))
def test_what_is_not_in_the_table_raises(state: State, signal: Signal) -> None:
    with pytest.raises(IllegalTransitionError, match=f"{signal.value} cannot happen while {state.value}"):
        follow(state, signal)


def test_a_deploy_from_start_to_end() -> None:
    state = State.REGISTERING
    for signal in (
        Signal.REGISTERED,
        Signal.WITHDRAWN,
        Signal.BEGUN,
        Signal.EMPTY,
        Signal.ARRIVED,
        Signal.EMPTY,
        Signal.TERMINATED,
        Signal.ENDED,
    ):
        state = follow(state, signal)
    assert state is State.EXITED


@given(st.lists(st.sampled_from(Signal)))
def test_whatever_happens_sigterm_ends_it_and_nothing_follows_the_end(signals: list[Signal]) -> None:
    state = State.REGISTERING
    for signal in signals:
        before = state
        try:
            state = follow(state, signal)
        except IllegalTransitionError:
            assert state is before
    if state not in (State.TERMINATING, State.EXITED):
        state = follow(state, Signal.TERMINATED)
    if state is State.TERMINATING:
        state = follow(state, Signal.ENDED)
    assert state is State.EXITED
    assert all((state, signal) not in TABLE for signal in Signal)


def test_only_a_drain_or_a_shift_can_be_taken_back() -> None:
    cancelled = {state for state, signal in TABLE if signal is Signal.CANCELLED}
    assert cancelled == {State.SHIFTING, *(state for state in State if is_leaving(state))}
    assert {TABLE[state, Signal.CANCELLED] for state in cancelled} == {State.SERVING}


def test_every_signal_has_a_meaning_and_a_place() -> None:
    assert set(MEANINGS) == set(Signal)
    assert {signal for _, signal in TABLE} == set(Signal)
    assert all(f"{state} --> {after}: {signal}" in diagram() for (state, signal), after in TABLE.items())
