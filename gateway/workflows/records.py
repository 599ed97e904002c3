"""What a store keeps and gives: definitions, runs, events, signals, and what one step changes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from gateway.workflows.run import Attempt, Key, Row, State
from gateway.workflows.states import AttemptStatus, RunStatus
from gateway.workflows.step import Event

ENGINE = "manager"


class StoredDefinition(NamedTuple):
    """`spec` is what `definition.stored` made."""

    name: str
    version: int
    spec: bytes
    sha256: str
    created_ms: int


class DueSchedule(NamedTuple):
    """A schedule whose time has come; times up to `done_ms` were seen to."""

    account: str
    name: str
    done_ms: int


class Parent(NamedTuple):
    """The attempt of another run that a nested run is."""

    run: str
    attempt: Attempt


class NewRun(NamedTuple):
    """A run that is to be. `version` None: the newest one. `key` is the caller's idempotency key, if any."""

    id: str
    account: str
    name: str
    version: int | None
    input: Any
    created_ms: int
    key: str | None = None
    parent: Parent | None = None
    depth: int = 0


class RunSummary(NamedTuple):
    """A run as lists show it. Times are ms since the Unix epoch."""

    id: str
    account: str
    name: str
    version: int
    status: RunStatus
    revision: int
    error: str | None
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    parent: str | None
    depth: int


class RunDetail(NamedTuple):
    """A whole run."""

    summary: RunSummary
    state: State
    parent: Parent | None


class Owned(NamedTuple):
    """A run whose manager this is, as long as `epoch` is the run's."""

    id: str
    epoch: int
    wake_ms: int | None


class EventRecord(NamedTuple):
    """One line of a run's history; its revision is the offset from which a subscriber goes on."""

    revision: int
    time_ms: int
    event: Event


class SignalKind(StrEnum):
    """What a process may tell the manager of a run, whichever that is."""

    BEGIN = "begin"
    CANCEL = "cancel"
    RESUME = "resume"
    CHILD = "child"
    REPORT = "report"


class Signal(NamedTuple):
    """Something told to a run; it is gone once a step that heard it is stored."""

    id: int
    run: str
    kind: SignalKind
    body: Any


class AttemptRecord(NamedTuple):
    """What becomes of an attempt. `begun`: it is a new one, and there must not be one of its number."""

    attempt: Attempt
    status: AttemptStatus
    external: str | None
    error: str | None
    begun: bool


class Change(NamedTuple):
    """What the manager of a run wants to be stored: from revision `before` to the one of `state`.

    `parent` is told how a nested run ended. `heard` are the ids of signals that were taken in.
    """

    state: State
    epoch: int
    before: int
    rows: dict[Key, Row]
    attempts: dict[Attempt, AttemptRecord]
    events: list[Event]
    children: list[NewRun]
    heard: list[int]
    parent: Parent | None


class Lease(NamedTuple):
    """A manager's right to write: only while its `fence` is the one in the store."""

    manager: str
    incarnation: str
    fence: int


Changes = Sequence[Change]
