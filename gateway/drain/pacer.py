"""How many connections to send away now: evenly until the deadline, within what the receivers can take. Pure.

n connections left and E − now seconds to go make the rate n / (E − now), anew at every tick: churn and late arrivals
are absorbed, and no list is made up front.
"""

from __future__ import annotations

import math

TICK_S = 0.1
# What the receivers take may be used a moment later, or a late tick would lose it.
BURST_S = 0.25
# A process that stood still makes up for two seconds at most, a tenth faster than it would go otherwise; the rest is
# spread over what is left.
CATCH_UP_S = 2.0
_HURRY = 0.1
# A tick that comes late does the work of at most this many seconds, or of the average length of the last ticks;
# after a stall that of one tick: others may have stood still at the same time, and all of it at once would be a burst.
LATE_S = 0.2
LATELY_S = 4.0
# What is left before the deadline may be next to nothing; a rate has to stay a number.
_SHORTEST_S = 1e-6
# More than any receiver takes.
NO_BOUND_PER_S = 1e9


class Pacer:
    """Call `due`, close that number, then call `closed`. Moments are monotonic seconds.

    `overrun` counts closes above the receivers' bound, forced by the deadline.

    `rate_per_s` is the rate that the last tick asked for, `worked_s` the seconds whose closes it made. `phase`, drawn
    from 0 to below 1 for each drain, is owed at the start: many processes with a few connections each must not all
    close their first at the same moment.
    """

    def __init__(self, begin_s: float, deadline_s: float, phase: float = 0.0) -> None:
        self.deadline_s = deadline_s
        self.rate_per_s = 0.0
        self.worked_s = 0.0
        self.overrun = 0
        self._last_s = begin_s
        self._usual_s = TICK_S
        self._behind_s = 0.0
        self._owed = phase
        self._room = 0.0

    def due(self, now_s: float, left: int, bound_per_s: float) -> int:
        """How many of the `left` connections to close now: never more than `left`, and all of them at the deadline.

        `bound_per_s` is what this process's share of the receivers tolerates (`bound_per_s` below).
        """
        worked_s = self._tick(now_s, bound_per_s)
        left_s = self.deadline_s - now_s
        if left <= 0 or left_s <= 0:
            self.rate_per_s = self._owed = 0.0
            return max(0, left)
        self.rate_per_s = left / max(left_s + worked_s, _SHORTEST_S)
        count = self._owe(worked_s, left)
        # What the bound can still do before the deadline need not be done above it.
        if left <= self._room + bound_per_s * left_s:
            count = min(count, math.floor(self._room))
        return count

    def steady(self, now_s: float, rate_per_s: float, left: int, bound_per_s: float) -> int:
        """How many of the `left` connections to close now at this rate, never above the bound."""
        worked_s = self._tick(now_s, bound_per_s)
        self.rate_per_s = rate_per_s if left > 0 else 0.0
        return min(self._owe(worked_s, max(0, left)), math.floor(self._room))

    def _tick(self, now_s: float, bound_per_s: float) -> float:
        """What the receivers take grows with the time; returns the seconds whose work this tick does."""
        elapsed_s = max(0.0, now_s - self._last_s)
        self._last_s = max(now_s, self._last_s)
        self._room = min(self._room + bound_per_s * elapsed_s, max(1.0, bound_per_s * BURST_S))
        self.worked_s = self._work_s(elapsed_s)
        return self.worked_s

    def _owe(self, worked_s: float, left: int) -> int:
        # What the bound held back is spread over what is left, too.
        self._owed = min(min(self._owed, 1.0) + self.rate_per_s * worked_s, left)
        return math.floor(self._owed)

    def _work_s(self, elapsed_s: float) -> float:
        """Of the seconds since the last tick, those whose work this one does."""
        # Who is always late works for all the time that passes, or it would end with a rush.
        worked_s = min(elapsed_s, max(LATE_S, self._usual_s))
        if elapsed_s >= CATCH_UP_S > 2 * self._usual_s:
            worked_s = TICK_S
        self._usual_s = usual_s(self._usual_s, elapsed_s)
        back_s = min(self._behind_s, _HURRY * worked_s)
        self._behind_s = min(self._behind_s - back_s + elapsed_s - worked_s, CATCH_UP_S)
        return worked_s + back_s

    def closed(self, count: int) -> int:
        """So many were closed after `due`. Returns how many of them were above the bound."""
        above = max(0, count - math.floor(self._room))
        self.overrun += above
        self._owed = max(0.0, self._owed - count)
        self._room -= count - above
        return above


def usual_s(before_s: float, elapsed_s: float) -> float:
    """How long ticks take lately, now that one took `elapsed_s`: a mean by time, in which a stall counts little."""
    counted_s = min(elapsed_s, CATCH_UP_S)
    return before_s + (counted_s - before_s) * counted_s / LATELY_S


def bound_per_s(receivers: int, draining: int, handshakes_per_s: float) -> float:
    """R × handshakes a second each ÷ K: the part of what the receivers take that is ours. 0 handshakes: no bound.

    Nobody else may be known to drain: then we are the one (K = 1).
    """
    if handshakes_per_s <= 0:
        return NO_BOUND_PER_S
    return receivers * handshakes_per_s / max(1, draining)
