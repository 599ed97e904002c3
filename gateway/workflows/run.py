"""The state of one run: what `advance` takes and returns, and what a store keeps. Times are ms since the Unix epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from gateway.workflows.states import AttemptStatus, NodeStatus, RunStatus

# The iteration of a row that stands for a whole node with for_each or repeat; its items count from 0.
WHOLE = -1


class Key(NamedTuple):
    """A node, or one item or iteration of it."""

    path: str
    iteration: int = 0


class Attempt(NamedTuple):
    """One attempt of one run; numbers count from 1."""

    path: str
    iteration: int
    number: int

    @property
    def key(self) -> Key:
        """What it is an attempt at."""
        return Key(self.path, self.iteration)


class Counts(Struct, frozen=True, omit_defaults=True, gc=False):
    """Of the row of a whole node. `next` is the first iteration that has not begun; `again` are those to be done again
    after a resume; `at_work` are begun and not over."""

    total: int
    next: int = 0
    at_work: int = 0
    ok: int = 0
    failed: int = 0
    again: tuple[int, ...] = ()


class Row(Struct, frozen=True, omit_defaults=True, gc=False):
    """`attempt` is the number of the last attempt, 0 before the first, and `first` that of the first one since the run
    was started or resumed: `attempt - first + 1` of the allowed ones are used up.

    `due_ms` is when something happens by itself: a wait is over, or the patience with an attempt. `deadline_ms` bounds
    the node. `reason` is why it is STOPPING. `counts` only in the row of a whole node; `run` is the nested run that the
    last attempt is.
    """

    status: NodeStatus
    attempt: int = 0
    first: int = 1
    phase: AttemptStatus | None = None
    external: str | None = None
    due_ms: int | None = None
    deadline_ms: int | None = None
    reason: str | None = None
    error: str | None = None
    value: Any = None
    counts: Counts | None = None
    run: str | None = None


class State(Struct, frozen=True):
    """A run between two transitions.

    `revision` is the number of its last event. `active` are the rows that are at work or wait for a time. `pending` are
    nodes that have to be looked at; after loading a run, all of them. `error` is the first failure that counts.
    """

    id: str
    name: str
    version: int
    input: Mapping[str, Any]
    status: RunStatus = RunStatus.QUEUED
    revision: int = 0
    started_ms: int | None = None
    deadline_ms: int | None = None
    ended_ms: int | None = None
    error: str | None = None
    output: Any = None
    rows: Mapping[Key, Row] = {}
    active: frozenset[Key] = frozenset()
    pending: tuple[str, ...] = ()

    @property
    def wake_ms(self) -> int | None:
        """When something happens by itself; None: only when somebody reports something. 0: there is more to do now."""
        if self.pending:
            return 0
        times = [row.due_ms for key in self.active if (row := self.rows[key]).due_ms is not None]
        if self.deadline_ms is not None and self.status is RunStatus.RUNNING:
            times.append(self.deadline_ms)
        return min(times, default=None)
