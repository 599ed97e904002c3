"""Runs that wait for a time: an entry in a heap each, and nothing else."""

from __future__ import annotations

import heapq


class Waiting:
    """Of each run only the time that was set last counts; earlier entries are skipped when they come up."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._at: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._at)

    def set(self, run: str, at_ms: int | None) -> None:
        """Wake it then; None: not at all."""
        if at_ms is None:
            self._at.pop(run, None)
        elif self._at.get(run) != at_ms:
            self._at[run] = at_ms
            heapq.heappush(self._heap, (at_ms, run))
            # Entries that count for nothing must not outgrow the others.
            if len(self._heap) > 2 * len(self._at) + 64:
                self._heap = [(at, name) for name, at in self._at.items()]
                heapq.heapify(self._heap)

    def next_ms(self) -> int | None:
        """When the next one is due; None: none waits."""
        self._skip()
        return self._heap[0][0] if self._heap else None

    def due(self, now_ms: int, limit: int) -> list[str]:
        """Those whose time has come, the earliest first; they wait no longer."""
        found: list[str] = []
        while len(found) < limit and (at := self.next_ms()) is not None and at <= now_ms:
            _, run = heapq.heappop(self._heap)
            del self._at[run]
            found.append(run)
        return found

    def _skip(self) -> None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
