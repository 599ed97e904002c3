"""A set of connections by slot: four bytes each, in one piece of memory, in order. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator


class Slots:
    """Adding and removing moves memory and makes no objects."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots = array("I")

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[int]:
        return iter(self._slots)

    def __contains__(self, slot: int) -> bool:
        place = bisect_left(self._slots, slot)
        return place < len(self._slots) and self._slots[place] == slot

    def add(self, slot: int) -> None:
        """Nothing happens when it is there."""
        place = bisect_left(self._slots, slot)
        if place == len(self._slots) or self._slots[place] != slot:
            self._slots.insert(place, slot)

    def discard(self, slot: int) -> None:
        """Nothing happens when it is not there."""
        if slot in self:
            del self._slots[bisect_left(self._slots, slot)]
