"""When each device connects for the first time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Opening:
    """The moments do not depend on answers. Idle until `begin`."""

    def __init__(self) -> None:
        self._slots: Iterator[int] = iter(())
        self._offsets: Iterator[float] = iter(())
        self._base_s = 0.0
        self._next_s: float | None = None

    @property
    def busy(self) -> bool:
        """Whether a device is still to connect."""
        return self._next_s is not None

    def begin(self, slots: Iterable[int], offsets: Iterator[float], at_s: float) -> None:
        """Each slot connects at the next of the `offsets` (seconds) from `at_s`."""
        self._slots, self._offsets, self._base_s = iter(slots), offsets, at_s
        self._advance()

    def end(self) -> None:
        """No further device connects."""
        self._next_s = None

    def due(self, now_s: float) -> Iterator[tuple[int, float]]:
        """The slots whose moments have come, with these moments."""
        while self._next_s is not None and self._next_s <= now_s:
            slot = next(self._slots, None)
            if slot is None:
                self._next_s = None
                return
            yield slot, self._next_s
            self._advance()

    def _advance(self) -> None:
        offset_s = next(self._offsets, None)
        self._next_s = None if offset_s is None else self._base_s + offset_s
