"""What is due for a connection, and when to look again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.connections.heartbeat import Due, Verdict, judge

BEAT_S = 10.0
HEARD_S = 100.0


@pytest.mark.parametrize(
    ("now_s", "due", "next_s"),
    [
        (100.0, Due.NOTHING, 110.0),
        (109.9, Due.NOTHING, 110.0),
        (110.0, Due.PING, 120.0),
        (119.9, Due.PING, 120.0),
        (120.0, Due.DEAD, 130.0),
        (500.0, Due.DEAD, 510.0),
    ],
)
def test_silence(now_s: float, due: Due, next_s: float) -> None:
    assert judge(now_s, HEARD_S, BEAT_S, 0, 0) == Verdict(due, next_s)


def test_a_plan() -> None:
    assert judge(100, HEARD_S, BEAT_S, 105, 0) == Verdict(Due.NOTHING, 105)
    assert judge(105, HEARD_S, BEAT_S, 105, 0) == Verdict(Due.LEAVE, 115)
    assert judge(110, HEARD_S, BEAT_S, 115, 0) == Verdict(Due.PING, 115)
    assert judge(120, HEARD_S, BEAT_S, 105, 0).due is Due.DEAD


def test_a_deadline_comes_first() -> None:
    assert judge(100, HEARD_S, BEAT_S, 0, 103) == Verdict(Due.NOTHING, 103)
    for now_s in (103, 120, 500):
        assert judge(now_s, HEARD_S, BEAT_S, 101, 103).due is Due.DEADLINE


def test_what_is_not_due_stands() -> None:
    assert judge(103, HEARD_S, BEAT_S, 105, 103) == Verdict(Due.DEADLINE, 105)
    assert judge(103, HEARD_S, BEAT_S, 101, 103) == Verdict(Due.DEADLINE, 103)
    assert judge(103, HEARD_S, BEAT_S, 120, 103) == Verdict(Due.DEADLINE, 113)
    assert judge(103, HEARD_S, BEAT_S, 103, 105) == Verdict(Due.LEAVE, 105)
    assert judge(120, HEARD_S, BEAT_S, 0, 125) == Verdict(Due.DEAD, 125)


moments = st.floats(0, 1000)


@given(moments, moments, st.floats(0.1, 100), st.one_of(st.just(0.0), moments), st.one_of(st.just(0.0), moments))
def test_the_next_look_is_ahead_and_not_behind_anything_due(
    now_s: float, heard_s: float, beat_s: float, planned_s: float, deadline_s: float
) -> None:
    due, next_s = judge(now_s, heard_s, beat_s, planned_s, deadline_s)
    assert next_s > now_s or (next_s == now_s >= planned_s and due in (Due.DEADLINE, Due.DEAD))
    assert due is Due.LEAVE or not planned_s or next_s <= max(now_s, planned_s)
    assert due is Due.DEADLINE or not deadline_s or next_s <= deadline_s
    if due in (Due.NOTHING, Due.PING):
        # Rounded, it may be a hair more.
        assert next_s <= (heard_s + 2 * beat_s) * (1 + 1e-12)


def test_a_ping_may_go_out_a_moment_early_instead_of_a_second_look() -> None:
    assert judge(24.9, 0, 25, 0, 0).due is Due.NOTHING
    assert judge(24.9, 0, 25, 0, 0, early_s=0.25) == (Due.PING, 50)
    assert judge(24.7, 0, 25, 0, 0, early_s=0.25) == (Due.NOTHING, 25)
