"""What one search may cost, whether it is still wanted, and what damage it met."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.adapters.sqlite.search import DayReader
from gateway.errors import QueryTooWideError, StoreError

# An edge of a polygon that a row is compared with is a step; all of it is some two seconds of a core.
MAX_STEPS = 10_000_000
ROW_STEPS = 5


class Effort:
    """Made by the event loop, spent by the reading thread, cancelled by either."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self._left = steps
        self._lock = threading.Lock()
        self._reader: DayReader | None = None
        self._cancelled = False

    def spend(self, rows: int, steps: int) -> None:
        """Count rows that were read, and steps made with them. Raises QueryTooWideError or StoreError."""
        if self._cancelled:
            raise StoreError("the search was cancelled")
        self._left -= rows * ROW_STEPS + steps
        if self._left < 0:
            raise QueryTooWideError(
                "it would look at too many events; narrow it by time, device, a smaller place or fewer positions"
            )

    @contextmanager
    def using(self, reader: DayReader) -> Iterator[None]:
        """While this lasts, `cancel` interrupts the reader. Raises StoreError when it was cancelled before."""
        with self._lock:
            if self._cancelled:
                raise StoreError("the search was cancelled")
            self._reader = reader
        try:
            yield
        finally:
            with self._lock:
                self._reader = None

    def cancel(self) -> None:
        """End the statement under way, and begin no other."""
        with self._lock:
            self._cancelled = True
            if self._reader is not None:
                self._reader.interrupt()
