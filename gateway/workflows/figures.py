"""Plain counts of a manager and a rebalancer, for the metrics. They are there before either is."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from gateway.workflows.definition import Definition
from gateway.workflows.records import Change
from gateway.workflows.states import is_attempt_over
from gateway.workflows.step import Kind

# Seconds; the last bucket has no bound.
BATCH_RUNS = (1, 4, 16, 64, 256)
ENDS = {Kind.RUN_OK: "ok", Kind.RUN_FAILED: "failed", Kind.RUN_CANCELLED: "cancelled"}
LATE_S = (0.01, 0.03, 0.1, 0.3, 1.0, 5.0, 15.0, 75.0)


class ManagerFigures:
    """`attempts` counts those that ended by runner and outcome, `ended` runs by how they ended, `transitions` events
    but for progress, `batches` transactions by how many runs they changed.

    `late` counts timers by how late their run was looked at, `late_s` is the sum. `slow_calls` are calls of `advance`
    that took longer than they should, `stood` those that held the loop up for everyone.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.waiting = 0
        self.stored = 0
        self.transitions = 0
        self.ended = dict.fromkeys(ENDS.values(), 0)
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.batches = [0] * (len(BATCH_RUNS) + 1)
        self.late = [0] * (len(LATE_S) + 1)
        self.late_s = 0.0
        self.slow_calls = 0
        self.stood = 0
        self.hogs = 0
        self.claimed = 0
        self.let_go = 0
        self.lost = 0

    def committed(self, changed: int) -> None:
        """A transaction has changed so many runs."""
        self.stored += changed
        self.batches[bisect_left(BATCH_RUNS, changed)] += 1

    def moved(self, definition: Definition, change: Change) -> None:
        """A change of a run is stored."""
        for event in change.events:
            self.transitions += event.kind is not Kind.PROGRESS
            if event.kind in ENDS:
                self.ended[ENDS[event.kind]] += 1
        for attempt, record in change.attempts.items():
            if is_attempt_over(record.status):
                self.attempts[definition.runners[attempt.path], record.status.value] += 1

    def timer(self, late_s: float) -> None:
        """A run was looked at so long after its time."""
        self.late[bisect_left(LATE_S, late_s)] += 1
        self.late_s += max(0.0, late_s)


class BalanceFigures:
    """`leading`: this is the rebalancer that is active. The others count what it ordered."""

    def __init__(self) -> None:
        self.leading = False
        self.managers = 0
        self.suspects = 0
        self.looks = 0
        self.dead = {"lease": 0, "hint": 0}
        self.moves = {"skew": 0, "hog": 0}
        self.forced = 0
        self.reserved = 0
