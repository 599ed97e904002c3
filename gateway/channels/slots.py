"""A set of connections by slot: four bytes each, in one piece of memory, in order. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from msgspec import Struct


class Slots(Struct, eq=False, gc=False):
    """Adding and removing moves memory and makes no objects. A single slot, which most channels have, is a number."""

    # None: there is none.
    _slots: int | array[int] | None = None

    def __len__(self) -> int:
        slots = self._slots
        return len(slots) if isinstance(slots, array) else int(slots is not None)

    def __iter__(self) -> Iterator[int]:
        slots = self._slots
        if isinstance(slots, array):
            return iter(slots)
        return iter(() if slots is None else (slots,))

    def __contains__(self, slot: int) -> bool:
        slots = self._slots
        if not isinstance(slots, array):
            return slot == slots
        place = bisect_left(slots, slot)
        return place < len(slots) and slots[place] == slot

    def add(self, slot: int) -> None:
        """Nothing happens when it is there."""
        slots = self._slots
        if slots is None:
            self._slots = slot
            return
        if not isinstance(slots, array):
            slots = self._slots = array("I", (slots,))
        place = bisect_left(slots, slot)
        if place == len(slots) or slots[place] != slot:
            slots.insert(place, slot)

    def discard(self, slot: int) -> None:
        """Nothing happens when it is not there."""
        if slot not in self:
            return
        slots = self._slots
        if not isinstance(slots, array) or len(slots) == 1:
            self._slots = None
        else:
            del slots[bisect_left(slots, slot)]
