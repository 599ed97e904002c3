"""Open readers of day files: kept for the next search, bounded in number, and never older than the file.

A day can be dropped and written again under the same name. A reader is kept by day and generation, so that one of a
file that is gone is closed and not asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.adapters.sqlite.search import DayReader

# A search of a month opens some readers again; it takes some 0.3 ms each.
MAX_READERS = 16
# One for each reading thread.
MIN_READERS = 2
# A file, its log and the memory shared by both.
FILES_EACH = 3


class Readers:
    """A pool for several threads. `generation` says which file of a day is the present one; None: there is none."""

    def __init__(self, generation: Callable[[int], int | None], maximum: int = MAX_READERS) -> None:
        self._generation = generation
        self._maximum = maximum
        self._lock = threading.Lock()
        self._idle: list[tuple[int, int, DayReader]] = []  # the one used last at the end
        self._closed = False

    @contextmanager
    def use(self, path: Path, day: int, generation: int) -> Iterator[DayReader]:
        """A reader of one day for one thread. Raises StoreError when the file cannot be opened."""
        reader = self._take(day, generation) or DayReader(path, day)
        try:
            yield reader
        finally:
            self._give_back(day, generation, reader)

    def drop(self, day: int) -> None:
        """The file of this day is about to go: close its readers. Those in use are closed when they are given back."""
        with self._lock:
            gone = [kept for kept in self._idle if kept[0] == day]
            self._idle = [kept for kept in self._idle if kept[0] != day]
        for _, _, reader in gone:
            reader.close()

    def close(self) -> None:
        """Close all; those in use when they are given back."""
        with self._lock:
            self._closed = True
            gone, self._idle = self._idle, []
        for _, _, reader in gone:
            reader.close()

    def _take(self, day: int, generation: int) -> DayReader | None:
        with self._lock:
            for index in reversed(range(len(self._idle))):
                if self._idle[index][:2] == (day, generation):
                    return self._idle.pop(index)[2]
        return None

    def _give_back(self, day: int, generation: int, reader: DayReader) -> None:
        gone: DayReader | None = None
        with self._lock:
            if self._closed or self._generation(day) != generation:
                gone = reader
            else:
                self._idle.append((day, generation, reader))
                if len(self._idle) > self._maximum:
                    gone = self._idle.pop(0)[2]
        if gone is not None:
            gone.close()
