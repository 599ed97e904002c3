"""What is due for one connection when the wheel comes to it. Pure."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Due(Enum):
    NOTHING = "nothing"
    PING = "ping"
    DEAD = "dead"
    DEADLINE = "deadline"
    LEAVE = "leave"


class Verdict(NamedTuple):
    """What to do now, and when to look again."""

    due: Due
    next_s: float


def judge(
    now_s: float, heard_s: float, heartbeat_s: float, planned_s: float, deadline_s: float, early_s: float = 0.0
) -> Verdict:
    """Ping after `heartbeat_s` without a word; dead after as long again.

    `planned_s`: when the peer is to be asked to leave, 0: never. `deadline_s`: the end of something under way, 0: none.
    A ping may go out `early_s` before its time: one look a period instead of a second one a moment later.
    A connection whose reading *we* have paused must be given with `heard_s` = `now_s`: its silence is our doing.
    """
    next_s, due = heard_s + heartbeat_s, Due.NOTHING
    if deadline_s and now_s >= deadline_s:
        next_s, due = now_s + heartbeat_s, Due.DEADLINE
    elif now_s >= heard_s + 2 * heartbeat_s:
        next_s, due = now_s + heartbeat_s, Due.DEAD
    elif planned_s and now_s >= planned_s:
        next_s, due = now_s + heartbeat_s, Due.LEAVE
    elif now_s >= next_s - early_s:
        next_s, due = next_s + heartbeat_s, Due.PING
    # What is not due now stands: its time may come before, or have come meanwhile.
    if planned_s and planned_s < next_s and due is not Due.LEAVE:
        next_s = max(now_s, planned_s)
    if deadline_s and deadline_s < next_s and due is not Due.DEADLINE:
        next_s = deadline_s
    return Verdict(due, next_s)
