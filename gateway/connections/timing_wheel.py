"""One timing wheel for the deadlines of all connections (Varghese and Lauck, 1987, scheme 6).

A connection costs four bytes here and no timer object. Each slot has one entry that counts: the earliest moment at
at which it has to be looked at. A later deadline is found when that moment comes; an earlier one gets a new entry and
the old one is void.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

_NEVER = 0xFFFFFFFF


class TimingWheel:
    """Slots to be looked at, by tick.

    `tick_s` is the resolution. What lies beyond the wheel's span is kept at its rim and comes up early: the caller
    looks, sees that nothing is due, and schedules again.
    """

    __slots__ = ("_buckets", "_due", "_now", "tick_s")

    def __init__(self, now_s: float, tick_s: float = 0.25, buckets: int = 512) -> None:
        self.tick_s = tick_s
        self._buckets = [array("I") for _ in range(buckets)]
        self._due = array("I")
        self._now = int(now_s / tick_s)

    def schedule(self, slot: int, at_s: float) -> None:
        """Look at `slot` at `at_s` (the clock of `turn`) or before. No effect when an earlier look is due already."""
        due = self._due
        while slot >= len(due):
            due.append(_NEVER)
        # Rounded up: nothing comes up before its time for want of resolution.
        tick, size = int(at_s / self.tick_s) + 1, len(self._buckets)
        if tick <= self._now:
            tick = self._now + 1
        elif tick >= self._now + size:
            tick = self._now + size - 1
        if tick < due[slot]:
            due[slot] = tick
            self._buckets[tick % size].append(slot)

    def cancel(self, slot: int) -> None:
        """Forget `slot`; it may be used for another connection."""
        if slot < len(self._due):
            self._due[slot] = _NEVER

    def turn(self, now_s: float) -> Iterator[int]:
        """The slots due up to `now_s`, each once; each is then unscheduled until `schedule` is called again."""
        target = int(now_s / self.tick_s)
        # After a stall longer than the whole wheel one round visits everything.
        for tick in range(max(self._now + 1, target - len(self._buckets) + 1), target + 1):
            self._now = tick
            index = tick % len(self._buckets)
            bucket = self._buckets[index]
            if bucket:
                self._buckets[index] = array("I")
                yield from self._due_in(bucket, target)

    def _due_in(self, bucket: array[int], target: int) -> Iterator[int]:
        due = self._due
        for slot in bucket:
            # An entry counts only while it is the slot's earliest; others are remains.
            if due[slot] <= target:
                due[slot] = _NEVER
                yield slot
