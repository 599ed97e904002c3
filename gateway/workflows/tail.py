"""The newest events of runs that are watched here, as they were stored by this process. Pure.

Whoever watches a run is nearly always at its end: then nothing has to be read. The store stays the truth; what is not
here, or may not be all, is read there.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from gateway.workflows.records import Change, EventRecord

MAX_EVENTS = 50_000
MAX_OF_RUN = 256
Key = tuple[str, str]


class Tail:
    """`maximum` of events in all; the runs go first that had none for longest."""

    def __init__(self, maximum: int = MAX_EVENTS) -> None:
        self._maximum = maximum
        self._runs: OrderedDict[Key, deque[EventRecord]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def take(self, change: Change, now_ms: int) -> None:
        """A change that is stored."""
        key = change.account, change.state.id
        kept = self._runs.get(key)
        if kept is None or kept[-1].revision != change.before:
            # Somebody else has stored some in between.
            self.forget(key)
            kept = self._runs[key] = deque()
        self._runs.move_to_end(key)
        kept.extend(EventRecord(change.before + 1 + place, now_ms, one) for place, one in enumerate(change.events))
        self._count += len(change.events)
        while len(kept) > MAX_OF_RUN:
            kept.popleft()
            self._count -= 1
        if not kept:
            del self._runs[key]
        while self._count > self._maximum and len(self._runs) > 1:
            self.forget(next(iter(self._runs)))

    def read(self, key: Key, after: int, limit: int) -> list[EventRecord]:
        """At most `limit` events behind a revision, in order; empty: ask the store."""
        kept = self._runs.get(key)
        if kept is None or not kept[0].revision - 1 <= after < kept[-1].revision:
            return []
        first = after + 1 - kept[0].revision
        return [kept[place] for place in range(first, min(first + limit, len(kept)))]

    def newest(self, key: Key) -> int:
        """Its newest revision here; 0: none."""
        kept = self._runs.get(key)
        return kept[-1].revision if kept else 0

    def forget(self, key: Key) -> None:
        """Nobody watches it any more."""
        self._count -= len(self._runs.pop(key, ()))
