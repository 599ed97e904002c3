"""Names that wait for a time: an entry in a heap each, and nothing else. Times are ms of any one clock."""

from __future__ import annotations

import heapq


class Waiting:
    """Of each name only the time that was set last counts; earlier entries are skipped when they come up."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._at: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._at)

    def set(self, name: str, at_ms: int | None) -> None:
        """Wake it then; None: not at all."""
        if at_ms is None:
            self._at.pop(name, None)
        elif self._at.get(name) != at_ms:
            self._at[name] = at_ms
            heapq.heappush(self._heap, (at_ms, name))
            # Entries that count for nothing must not outgrow the others.
            if len(self._heap) > 2 * len(self._at) + 64:
                self._heap = [(at, each) for each, at in self._at.items()]
                heapq.heapify(self._heap)

    def next_ms(self) -> int | None:
        """When the next one is due; None: none waits."""
        self._skip()
        return self._heap[0][0] if self._heap else None

    def due(self, now_ms: int, limit: int) -> list[tuple[int, str]]:
        """Times and names whose time has come, the earliest first; they wait no longer."""
        found: list[tuple[int, str]] = []
        while len(found) < limit and (at := self.next_ms()) is not None and at <= now_ms:
            entry = heapq.heappop(self._heap)
            del self._at[entry[1]]
            found.append(entry)
        return found

    def _skip(self) -> None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
