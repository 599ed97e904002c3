"""What `advance` is told, and what it returns: events of the world in, rows, events and commands out."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct

from gateway.workflows.run import Attempt, Key, Row, State
from gateway.workflows.states import AttemptStatus

# What can happen to a run


class Begin(NamedTuple):
    """Its manager begins it."""


class Tick(NamedTuple):
    """Time has passed, or the last call wanted another one."""


class Cancel(NamedTuple):
    """Somebody wants it to end. `why` is shown."""

    why: str = "cancelled"


class Resume(NamedTuple):
    """Somebody wants a failed or cancelled run to go on: only what did not succeed runs again."""


class Submitted(NamedTuple):
    """A runner is about to begin an attempt; `external` is where it will be found."""

    attempt: Attempt
    external: str


class Progress(NamedTuple):
    """An attempt says that it runs, and perhaps how far it is. None: it did not say."""

    attempt: Attempt
    percent: float | None = None
    message: str | None = None


class Finished(NamedTuple):
    """An attempt succeeded."""

    attempt: Attempt
    value: Any = None


class Failed(NamedTuple):
    """An attempt failed. `lost`: nobody knows how it ended. Not `again`: the same would happen again."""

    attempt: Attempt
    error: str
    again: bool = True
    lost: bool = False


Happening = Begin | Tick | Cancel | Resume | Submitted | Progress | Finished | Failed


# What comes out


class Kind(StrEnum):
    """What an event tells those who watch a run."""

    RUN_STARTED = "run_started"
    RUN_FAILING = "run_failing"
    RUN_CANCELLING = "run_cancelling"
    RUN_RESUMED = "run_resumed"
    RUN_OK = "run_ok"
    RUN_FAILED = "run_failed"
    RUN_CANCELLED = "run_cancelled"
    NODE_STARTED = "node_started"
    NODE_WAITING = "node_waiting"
    NODE_STOPPING = "node_stopping"
    NODE_OK = "node_ok"
    NODE_FAILED = "node_failed"
    NODE_SKIPPED = "node_skipped"
    NODE_CANCELLED = "node_cancelled"
    ATTEMPT_STARTED = "attempt_started"
    ATTEMPT_SUBMITTED = "attempt_submitted"
    PROGRESS = "progress"


class Event(Struct, frozen=True, omit_defaults=True, gc=False):
    """One line of a run's history. `iteration` is absent where the whole node is meant."""

    kind: Kind
    node: str | None = None
    iteration: int | None = None
    attempt: int | None = None
    until_ms: int | None = None
    total: int | None = None
    external: str | None = None
    percent: float | None = None
    message: str | None = None
    error: str | None = None
    run: str | None = None


class Submit(NamedTuple):
    """Ask `runner` for the work of an attempt; `work` is a plain JSON object, its expressions replaced."""

    attempt: Attempt
    runner: str
    work: Any


class Proceed(NamedTuple):
    """What a runner calls an attempt is stored: it may begin, for whoever comes later knows where to look for it."""

    attempt: Attempt
    runner: str


class StartChild(NamedTuple):
    """Insert a run of the newest definition of this name, in the transaction of the step."""

    attempt: Attempt
    run: str
    name: str
    input: Any


class Stop(NamedTuple):
    """Tell the runner that an attempt is not wanted any more; it reports its end all the same."""

    attempt: Attempt
    runner: str
    external: str | None
    reason: str


class Adopt(NamedTuple):
    """Go on with an attempt that an earlier process was asked for, or was about to ask for. Not `wanted`: it was told
    to stop, and must not begin."""

    attempt: Attempt
    runner: str
    external: str | None
    work: Any
    wanted: bool = True


Command = Submit | Proceed | StartChild | Stop


class AttemptChange(NamedTuple):
    """What becomes of an attempt's record. None: as it was."""

    status: AttemptStatus
    external: str | None = None
    error: str | None = None


class Step(NamedTuple):
    """What one call of `advance` did.

    `state` is the run behind it, `before` its revision in front of it; `rows` and `attempts` are what has to be stored,
    the events have the numbers `before + 1` and so on. `commands` are carried out once all that is stored. `more`: call
    again with Tick.
    """

    state: State
    before: int
    rows: dict[Key, Row]
    attempts: dict[Attempt, AttemptChange]
    events: list[Event]
    commands: list[Command]
    more: bool
