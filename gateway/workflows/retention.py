"""Deletes runs that have been over for longer than they are kept.

It cannot be undone, and the wall clock may be wrong: one turn takes no more than what ended within a day of the oldest.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.clock import Clock
from gateway.workflows.again import again
from gateway.workflows.ports import NodeRunner, WorkflowStore

EVERY_S = 3600.0
# Of one transaction, so that others have theirs in between.
BATCH_RUNS = 200
_DAY_MS = 86_400_000


class Retention:
    """Runs and their events are kept for `days` behind their end."""

    def __init__(self, store: WorkflowStore, runners: Mapping[str, NodeRunner], clock: Clock, days: int) -> None:
        self._store = store
        self._runners = runners
        self._clock = clock
        self._days = days

    async def run(self) -> None:
        """Until cancelled."""
        await again(self.turn, EVERY_S)

    async def turn(self) -> None:
        """Delete what is too old, a day of it at most. Raises StoreError."""
        oldest_ms = await self._store.oldest_ended_ms()
        if oldest_ms is None:
            return
        before_ms = min(self._clock.time_ms() - self._days * _DAY_MS, oldest_ms + _DAY_MS)
        while (attempts := await self._store.delete_ended(before_ms, BATCH_RUNS)) is not None:
            for runner in self._runners.values():
                await runner.forget(attempts)
        await self._store.delete_lines(before_ms)
