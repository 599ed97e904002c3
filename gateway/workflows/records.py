"""What a store keeps and gives: definitions, runs, events, signals, and what one step changes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct

from gateway.workflows.run import Attempt, Key, Row, State
from gateway.workflows.states import AttemptStatus, RunStatus
from gateway.workflows.step import Event

ENGINE = "manager"


class RunLine(Struct, frozen=True, omit_defaults=True):
    """A run as the channel `workflows` tells of it; `offset` is that of the event in the run's own channel."""

    run: str
    definition: str
    version: int
    status: str
    offset: int
    error: str | None = None


class StoredDefinition(NamedTuple):
    """`spec` is what `definition.stored` made."""

    name: str
    version: int
    spec: bytes
    sha256: str
    created_ms: int


class DueSchedule(NamedTuple):
    """A schedule whose time has come at `now_ms`; times up to `done_ms` were seen to."""

    account: str
    name: str
    done_ms: int
    now_ms: int


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


class Created(NamedTuple):
    """`new` False: its idempotency key was known. `version` is that of the definition that was asked for."""

    run: str
    new: bool
    version: int


class NotCreated(StrEnum):
    """Why a run was not stored: its definition is not there, or its account has as many live ones as it may."""

    NO_DEFINITION = "no_definition"
    TOO_MANY = "too_many"


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
    """A run whose manager this is, as long as `epoch` is the run's. For `hold_ms` its last one may still begin jobs."""

    id: str
    account: str
    epoch: int
    wake_ms: int | None
    hold_ms: int = 0


class EventRecord(NamedTuple):
    """One line of a run's history; its revision is the offset from which a subscriber goes on."""

    revision: int
    time_ms: int
    event: Event


class LineRecord(NamedTuple):
    """A line of the list of an account's runs: one of them began, ended, or is about to. `line` is what is shown."""

    number: int
    time_ms: int
    line: RunLine


class SignalKind(StrEnum):
    """What a process may tell the manager of a run, whichever that is."""

    BEGIN = "begin"
    CANCEL = "cancel"
    RESUME = "resume"
    CHILD = "child"
    REPORT = "report"
    # Never stored: of a later version, or damaged.
    UNREADABLE = "unreadable"


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


class AttemptFound(NamedTuple):
    """An attempt as a job that speaks for it finds it. `starter` is the job that began it; None: none has said so.

    `wanted`: it is at work, and nobody has told it to stop. `over`: its outcome is known.
    """

    run: str
    account: str
    attempt: Attempt
    starter: str | None
    wanted: bool
    over: bool


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
    account: str


class Lease(NamedTuple):
    """A manager's right to write: only while its `fence` is the one in the store."""

    manager: str
    incarnation: str
    fence: int


class Sign(NamedTuple):
    """What a manager says of itself: a number that grows while it gets on, the session lock that its process holds, if
    any, and the run that took too much of its time, which has happened `hogs` times."""

    progress: int
    lock_key: int | None = None
    hog_run: str | None = None
    hogs: int = 0


Changes = Sequence[Change]
