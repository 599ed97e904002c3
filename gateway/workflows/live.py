"""Runs in memory, and which of them leave it: by bytes, for one large run weighs as much as thousands of small ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from gateway.workflows.advance import loaded
from gateway.workflows.definition import Definition
from gateway.workflows.folding import weight
from gateway.workflows.records import NewRun, Owned, Parent, RunDetail, RunSummary
from gateway.workflows.run import State
from gateway.workflows.states import RunStatus


def fresh(new: NewRun, version: int) -> RunDetail:
    """A run as it was just created."""
    parent = None if new.parent is None else new.parent.run
    summary = RunSummary(
        new.id, new.account, new.name, version, RunStatus.QUEUED, 0, None, new.created_ms, None, None, parent, new.depth
    )
    return RunDetail(summary, State(new.id, new.name, version, new.input), new.parent)


class Live:
    """A run in memory."""

    __slots__ = ("account", "bytes", "definition", "depth", "epoch", "parent", "state")

    def __init__(self, owned: Owned, detail: RunDetail, definition: Definition) -> None:
        self.epoch = owned.epoch
        self.account = detail.summary.account
        self.depth = detail.summary.depth
        self.parent: Parent | None = detail.parent
        self.definition = definition
        self.state = loaded(definition, detail.state)
        self.bytes = weight(self.state)


class LiveRuns:
    """`maximum_bytes` is about what they may take."""

    def __init__(self, maximum_bytes: int) -> None:
        self._maximum_bytes = maximum_bytes
        self._runs: OrderedDict[str, Live] = OrderedDict()
        self._bytes = 0

    def find(self, run: str) -> Live | None:
        """None: it is not in memory."""
        return self._runs.get(run)

    def add(self, run: str, live: Live) -> None:
        """One that was not there."""
        self._runs[run] = live
        self._bytes += live.bytes

    def grow(self, run: str, live: Live, more_bytes: int) -> None:
        """It was used, and takes so much more; harmless when it has left meanwhile."""
        live.bytes += more_bytes
        if self._runs.get(run) is live:
            self._bytes += more_bytes
            self._runs.move_to_end(run)

    def drop(self, run: str) -> None:
        """Out of memory; the store has it. Harmless when it is not there."""
        live = self._runs.pop(run, None)
        if live is not None:
            self._bytes -= live.bytes

    def evict(self, needed: Container[str]) -> None:
        """Down to the maximum, those first that were not used for longest; none of the `needed` ones."""
        if self._bytes <= self._maximum_bytes:
            return
        for run in list(self._runs):
            if self._bytes <= self._maximum_bytes:
                return
            if run not in needed:
                self.drop(run)
