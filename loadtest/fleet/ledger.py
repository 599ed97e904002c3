"""Accounts for every event of a fleet: sent = acked + nacked + in flight + stored + lost, at all times. Pure.

An event is a number of a device, counted from 1, and open until it is acked, refused for good or lost. Open events are
in two dictionaries (in flight, stored), so that a device without open events costs only its columns. Acked is each
number made that is neither open nor a hole, which takes no memory at all.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator


class Ledger:
    """`capacity` is the number of events that a device can store; beyond it the oldest is lost. Moments are above 0."""

    def __init__(self, devices: int, capacity: int) -> None:
        self._capacity = capacity
        self._flying: dict[int, float] = {}
        self._stored: dict[int, float] = {}  # negative: it was in flight once
        self._holes: dict[int, list[int]] = {}
        self.made = array("I", bytes(4 * devices))
        self._low = array("I", bytes(4 * devices))  # all numbers up to it are settled
        self._floor = array("I", bytes(4 * devices))  # no number up to it is stored
        self.flying = array("I", bytes(4 * devices))
        self.stored = array("I", bytes(4 * devices))
        # The events acked since it was last emptied, as slot << 32 | number; None: they are not kept.
        self.journal: list[int] | None = None
        self.sent = self.acked = self.nacked = self.lost = self.resent = 0

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    @property
    def waiting(self) -> int:
        return len(self._stored)

    def make(self, slot: int) -> int:
        """Make a new event; the caller calls `fly` or `store` for it at once."""
        number = self.made[slot] + 1
        self.made[slot] = number
        self.sent += 1
        return number

    def fly(self, slot: int, number: int, intended_s: float) -> None:
        """The event is sent."""
        self._flying[slot << 32 | number] = intended_s
        self.flying[slot] += 1

    def store(self, slot: int, number: int, intended_s: float) -> int | None:
        """Store the event on the device; returns the number of the event that is lost for it, if any."""
        dropped = self._oldest(slot) if self.stored[slot] >= self._capacity else None
        self._stored[slot << 32 | number] = intended_s
        self.stored[slot] += 1
        if dropped is not None:
            self._lose(slot, dropped)
        return dropped

    def take(self, slot: int, limit: int) -> list[tuple[int, float]]:
        """Send the oldest stored events, up to `limit` of them; returns their numbers and intended moments."""
        taken: list[tuple[int, float]] = []
        if limit > 0 and self.stored[slot]:
            for number in self._maybe_stored(slot):
                key = slot << 32 | number
                intended_s = self._stored.pop(key, None)
                if intended_s is None:
                    continue
                self._floor[slot] = number
                self.resent += intended_s < 0
                intended_s = abs(intended_s)
                taken.append((number, intended_s))
                self._flying[key] = intended_s
                if len(taken) == min(limit, self.stored[slot]):
                    break
            self.stored[slot] -= len(taken)
            self.flying[slot] += len(taken)
        return taken

    def ack(self, slot: int, number: int) -> float | None:
        """The event is durable; returns its intended moment; None: it was settled before, or never made."""
        intended_s = self._close(slot, number)
        if intended_s is not None:
            self.acked += 1
            if self.journal is not None:
                self.journal.append(slot << 32 | number)
        return intended_s

    def refuse(self, slot: int, number: int) -> None:
        """The event was nacked for good."""
        if self._close(slot, number) is not None:
            self.nacked += 1
            self._holes.setdefault(slot, []).append(number)

    def put_back(self, slot: int, number: int) -> None:
        """The event was nacked for now: it is stored again, even beyond the capacity (it had its place before)."""
        intended_s = self._flying.pop(slot << 32 | number, None)
        if intended_s is not None:
            self.flying[slot] -= 1
            self._stored[slot << 32 | number] = -intended_s
            self.stored[slot] += 1
            self._floor[slot] = min(self._floor[slot], number - 1)

    def disconnected(self, slot: int) -> None:
        """Events in flight may or may not have arrived: they are stored, to be sent again with the same ids."""
        if self.flying[slot]:
            for number in self._open(slot):
                self.put_back(slot, number)

    def lose_open(self, slot: int) -> list[int]:
        """The open events will never be answered; returns their numbers."""
        gone = [number for number in self._open(slot) if self._is_open(slot, number)]
        for number in gone:
            self._lose(slot, number)
        return gone

    def acked_ranges(self, slot: int) -> str:
        """The acked numbers, such as `1-7,9`; empty: none."""
        holes = {*self._holes.get(slot, ()), *(n for n in self._open(slot) if self._is_open(slot, n))}
        ranges: list[str] = []
        first = 1
        for end in (*sorted(holes), self.made[slot] + 1):
            if end > first:
                ranges.append(f"{first}-{end - 1}" if end - first > 1 else f"{first}")
            first = end + 1
        return ",".join(ranges)

    def _open(self, slot: int) -> Iterator[int]:
        """The numbers that may be open, oldest first."""
        return iter(range(self._low[slot] + 1, self.made[slot] + 1))

    def _maybe_stored(self, slot: int) -> Iterator[int]:
        """The numbers that may be stored, oldest first."""
        return iter(range(max(self._low[slot], self._floor[slot]) + 1, self.made[slot] + 1))

    def _is_open(self, slot: int, number: int) -> bool:
        key = slot << 32 | number
        return key in self._flying or key in self._stored

    def _oldest(self, slot: int) -> int | None:
        for number in self._maybe_stored(slot):
            if slot << 32 | number in self._stored:
                self._floor[slot] = number - 1
                return number
        return None

    def _lose(self, slot: int, number: int) -> None:
        if self._close(slot, number) is not None:
            self.lost += 1
            self._holes.setdefault(slot, []).append(number)

    def _close(self, slot: int, number: int) -> float | None:
        key = slot << 32 | number
        intended_s = self._flying.pop(key, None)
        if intended_s is not None:
            self.flying[slot] -= 1
        else:
            intended_s = self._stored.pop(key, None)
            if intended_s is None:
                return None
            self.stored[slot] -= 1
            intended_s = abs(intended_s)
        low, made = self._low[slot], self.made[slot]
        if number == low + 1:
            low = number
            while low < made and not self._is_open(slot, low + 1):
                low += 1
            self._low[slot] = low
        return intended_s
