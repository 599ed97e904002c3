"""Definitions of runs that are moved on, as they are needed."""

from __future__ import annotations

from collections import OrderedDict

from gateway.workflows.definition import Definition, load
from gateway.workflows.ports import WorkflowStore
from gateway.workflows.records import RunSummary

MAXIMUM = 256


class Definitions:
    """Keeps those that were used last; a version never changes."""

    def __init__(self, store: WorkflowStore) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str, int], Definition] = OrderedDict()

    async def of(self, summary: RunSummary) -> Definition:
        """That of a run. Raises StoreError, and ValueError where there is none that can be read."""
        key = (summary.account, summary.name, summary.version)
        if key not in self._known:
            stored = await self._store.definition(*key)
            if stored is None:
                raise ValueError(f"the definition {summary.name} {summary.version} of the run {summary.id} is missing")
            self._known[key] = load(stored.spec)
            if len(self._known) > MAXIMUM:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]
