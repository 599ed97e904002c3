"""What goes wrong with the devices of a fleet process, and when: slow readers, silence, leaving. Pure."""

from __future__ import annotations

from array import array

from loadtest.fleet.options import HALF_OPEN, SLOW, FleetOptions

# Why nothing passes on a connection: until the device makes a new one, or for a while on this one.
SILENT, STALLED = 1, 2


class Faults:
    """Columns by slot. `mute`: SILENT or STALLED while nothing passes, else 0. `faulty`: not 0 for a device whose
    latencies are counted apart, whether its fault is over or not."""

    def __init__(self, options: FleetOptions) -> None:
        self.mute = array("B", bytes(options.devices))
        self.faulty = array("B", (options.faults(slot) for slot in range(options.devices)))
        self._options = options
        self._left = self.faulty[:]  # the faults that are still to come
        self._churns = bool(options.churn_period_s)

    def is_slow(self, slot: int) -> bool:
        """Whether the device stops reading once it is connected."""
        return bool(self._left[slot] & SLOW)

    def silence_s(self, slot: int, since_s: float) -> float | None:
        """When a device that was welcomed at `since_s` falls silent; None: never."""
        if not self._left[slot] & HALF_OPEN:
            return None
        return since_s + self._options.half_open_after_s(slot)

    def churn_s(self, slot: int, since_s: float) -> float | None:
        """When a device that was welcomed at `since_s` leaves, to reconnect; None: never."""
        return since_s + self._options.churn_after_s(slot) if self._churns else None

    def was_silent(self, slot: int) -> None:
        """The device falls silent once only."""
        self._left[slot] &= ~HALF_OPEN

    def end(self) -> list[int]:
        """No fault happens from now on; returns the slots that had one before them or are mute."""
        slots = [slot for slot, left in enumerate(self._left) if left or self.mute[slot]]
        self._left = array("B", bytes(len(self._left)))
        self._churns = False
        return slots
