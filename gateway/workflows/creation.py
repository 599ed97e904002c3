"""Runs that are asked for at the same time are stored in one transaction: each of its own would be a sync to disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.workflows.ports import WorkflowStore
from gateway.workflows.records import Created, NewRun, NotCreated

BATCH_RUNS = 256


class Creation:
    """While one transaction is under way, others gather for the next; whoever gets its turn takes all of them along."""

    def __init__(
        self, store: WorkflowStore, manager: Callable[[], str | None], begin: Callable[[NewRun, int], None]
    ) -> None:
        """`manager` is to have them, and is told by `begin` of each that is stored and of its definition's version."""
        self._store = store
        self._manager = manager
        self._begin = begin
        self._turn = asyncio.Lock()
        self._waiting: dict[str, NewRun] = {}
        self._done: dict[str, Created | NotCreated] = {}

    async def create(self, new: NewRun) -> Created | NotCreated:
        """See WorkflowStore.create. Cancelled, it may have been stored."""
        self._waiting[new.id] = new
        try:
            async with self._turn:
                if new.id not in self._done:
                    await self._store_some(new)
                return self._done[new.id]
        finally:
            self._waiting.pop(new.id, None)
            self._done.pop(new.id, None)

    async def _store_some(self, own: NewRun) -> None:
        others = [new for new in self._waiting.values() if new.id != own.id and new.id not in self._done]
        batch = [own, *others[: BATCH_RUNS - 1]]
        manager = self._manager()
        for new, created in zip(batch, await self._store.create(batch, manager), strict=True):
            if isinstance(created, Created) and created.new and manager is not None:
                self._begin(new, created.version)
            # Who does not wait any more has no use for it.
            if new.id in self._waiting:
                self._done[new.id] = created
