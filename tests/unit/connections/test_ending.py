"""The table of phases, and what a connection's end is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.connections.ending import (
    BROKEN,
    CLOSING,
    DRAIN,
    ENDED,
    EOF,
    EXPIRING,
    GREETING,
    LEAVING,
    OPEN,
    OPERATOR,
    PHASE,
    PHASES,
    RESET,
    RESETTING,
    STAYS,
    TABLE,
    TIMED_OUT,
    TOKEN_EXPIRED,
    UNANNOUNCED,
    Ending,
    Step,
    breakage,
    diagram,
    failure,
)


def follow(*steps: Step) -> int:
    phase = GREETING
    for step in steps:
        phase = TABLE[phase, step]
    return phase


@given(st.lists(st.sampled_from(Step)))
def test_a_lost_connection_ends_from_any_phase_and_stays_ended(steps: list[Step]) -> None:
    phase = GREETING
    for step in steps:
        phase = TABLE.get((phase, step), phase)
    assert TABLE[phase, Step.DONE] == ENDED
    assert {TABLE.get((ENDED, step), ENDED) for step in Step} == {ENDED}


def test_the_order_of_the_phases_says_what_is_allowed() -> None:
    assert all(phase <= PHASE for phase in PHASES)
    assert OPEN == 0, "a connection with nothing special about it has no flag"
    assert max(OPEN, LEAVING, EXPIRING) < GREETING < UNANNOUNCED < RESETTING < CLOSING < ENDED
    assert STAYS == (OPEN, GREETING)


def test_only_a_token_that_ends_can_be_renewed() -> None:
    assert follow(Step.GREETED, Step.EXPIRES, Step.RENEWED) == OPEN
    assert [phase for phase, step in TABLE if step is Step.RENEWED] == [EXPIRING]


def test_one_that_is_asked_early_leaves_after_its_first_message() -> None:
    assert follow(Step.DEFERRED) == UNANNOUNCED
    assert follow(Step.DEFERRED, Step.ASKED) == LEAVING
    assert follow(Step.DEFERRED, Step.EXPIRES) == EXPIRING


@pytest.mark.parametrize("step", [Step.ASKED, Step.EXPIRES, Step.RESET, Step.GREETED])
def test_nothing_comes_after_a_close(step: Step) -> None:
    assert (CLOSING, step) not in TABLE
    assert (RESETTING, step) not in TABLE


def test_every_phase_is_reached_and_drawn() -> None:
    assert {*TABLE.values(), GREETING} == set(PHASES)
    drawn = diagram()
    assert all(name in drawn for name, _ in PHASES.values())


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (None, EOF),
        (ConnectionResetError(), RESET),
        (BrokenPipeError(), RESET),
        (TimeoutError(), TIMED_OUT),
        (OSError(), BROKEN),
    ],
)
def test_a_broken_connection_is_called_what_the_transport_says(error: Exception | None, cause: object) -> None:
    assert breakage(error) is cause


def test_the_code_is_that_of_the_decision_else_of_the_cause() -> None:
    assert Ending(TOKEN_EXPIRED).code == 4401
    assert Ending(OPERATOR, 1013, "maintenance").code == 1013
    assert Ending(DRAIN).code == 0
    assert failure(4429) == ("rate", 4429, "")


def test_the_reason_for_people_is_the_operators_own() -> None:
    assert Ending(OPERATOR, 1001, "maintenance").reason == "maintenance"
    assert Ending(DRAIN).reason == "drain"
    assert Ending(DRAIN, goaway=b"{}").sent_away
    assert not Ending(DRAIN).sent_away
