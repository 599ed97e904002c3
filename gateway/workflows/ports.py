"""What the part needs from outside: a store, and runners that do the work of nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gateway.workflows.records import (
    Changes,
    DueSchedule,
    EventRecord,
    Lease,
    NewRun,
    Owned,
    RunDetail,
    RunSummary,
    Signal,
    SignalKind,
    StoredDefinition,
)
from gateway.workflows.run import Attempt
from gateway.workflows.step import Happening


class WorkflowStore(Protocol):
    """Every call raises StoreError when the store cannot be reached or written; then nothing of it has happened.

    Cancelling a call leaves open whether it has happened.
    """

    async def open(self) -> None:
        """Make or migrate the schema. Raises SchemaError for a store of a newer program."""

    async def close(self) -> None:
        """Release everything."""

    # Definitions

    async def put_definition(
        self, account: str, name: str, spec: bytes, sha256: str, now_ms: int, next_ms: int | None = None
    ) -> StoredDefinition:
        """Store a new version, whose schedule is due at `next_ms` (None: it has none); the newest one as it is, when it
        is the same."""

    async def definition(self, account: str, name: str, version: int | None = None) -> StoredDefinition | None:
        """One version, or the newest one."""

    async def definitions(self, account: str, after: str, limit: int) -> list[StoredDefinition]:
        """The newest version of each name behind `after`, by name."""

    async def due_schedules(self, now_ms: int, limit: int) -> list[DueSchedule]:
        """Those whose time has come, the earliest first."""

    async def move_schedule(self, due: DueSchedule, done_ms: int, next_ms: int | None) -> None:
        """It is due again at `next_ms`; None: never. Unless it was put anew, or somebody else has moved it."""

    # Runs

    async def create(self, news: Sequence[NewRun], manager: str | None) -> list[tuple[str, bool] | None]:
        """Store runs, each with the signal that begins it; their ids, and whether each is new (else its key was known).

        None: there is no such definition. `manager` None: whoever claims them. Harmless again with the same ids.
        """

    async def run(self, account: str, run: str) -> RunDetail | None:
        """A run of this account."""

    async def runs(self, account: str, status: str | None, before: str | None, limit: int) -> list[RunSummary]:
        """Runs of an account, the newest first, behind the id `before`."""

    async def events(self, account: str, run: str, after: int, limit: int) -> list[EventRecord] | None:
        """Events behind a revision, in order; None: there is no such run in this account."""

    async def revisions(self, runs: Sequence[tuple[str, str]]) -> list[int]:
        """The revision of each (account, run); 0 for one that is not there."""

    async def signal(self, run: str, kind: SignalKind, body: Any, now_ms: int) -> None:
        """Tell a run's manager something."""

    async def delete_ended(self, before_ms: int, limit: int) -> list[str] | None:
        """Delete some runs that ended before a time, with all that belongs to them; the public ids of their attempts.

        None: there are no more.
        """

    # For managers

    async def register(self, manager: str, incarnation: str, lease_s: float, *, again: bool = False) -> Lease:
        """Begin a life under this name: whoever had it before can write no more, and its runs are this one's.

        `again`: after a lease was lost. Raises ManagerReplacedError where somebody else has had the name since.
        """

    async def heartbeat(self, lease: Lease, lease_s: float, progress: int) -> bool:
        """Prolong a lease; `progress` is a number that grows while its holder does something. False: it is lost."""

    async def release_dead(self, lease: Lease) -> list[str]:
        """Take over for managers whose leases have run out: they can write no more, and their runs are nobody's.

        Their names.
        """

    async def retire(self, lease: Lease) -> None:
        """End a life: its runs are nobody's, for others to claim at once."""

    async def owned(self, lease: Lease) -> list[Owned]:
        """All runs of this manager that are not over."""

    async def at_work(self, lease: Lease) -> set[str]:
        """Those of them that have attempts at work."""

    async def claim(self, lease: Lease, limit: int) -> list[Owned]:
        """Take runs that no manager has."""

    async def load(self, lease: Lease, runs: Sequence[Owned]) -> list[tuple[Owned, RunDetail]]:
        """Those that are still this manager's under the same epoch."""

    async def signals(self, lease: Lease, limit: int) -> list[tuple[Owned, Signal]]:
        """What was told to runs of this manager, the oldest first."""

    async def commit(self, lease: Lease, changes: Changes, now_ms: int) -> set[str]:
        """Store all changes in one transaction; the ids of the runs that were still this manager's. Of the others
        nothing is stored."""


# Tells the manager what became of an attempt.
Report = Callable[[str, Happening], None]


class NodeRunner(Protocol):
    """Does the work of attempts. What becomes of them it tells by `Report`, from the loop's thread.

    `submit` says by Submitted where the attempt will be found; `proceed` comes when that is stored. A runner whose work
    must not be done twice begins it only then. Every attempt is reported as Finished or Failed once, unless the runner
    is closed; to report it again is harmless.
    """

    name: str
    # Whether only tokens with the scope admin may put definitions that use it.
    for_admins: bool

    def problem(self, work: Mapping[str, Any]) -> str:
        """What is wrong with what a node asks for, its expressions not replaced; "" when nothing is."""

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        """An attempt whose INTENT is stored."""

    async def proceed(self, run: str, attempt: Attempt) -> None:
        """Where it will be found is stored."""

    async def adopt(
        self, run: str, account: str, attempt: Attempt, external: str | None, work: Mapping[str, Any]
    ) -> None:
        """Go on with an attempt that an earlier process, or another manager, was asked for. `external` is where it is
        to be found; None: that was never stored."""

    async def stop(self, run: str, attempt: Attempt) -> None:
        """It is not wanted any more. Its end is reported all the same."""

    async def forget(self, attempts: Sequence[str]) -> None:
        """Runs are deleted: what was kept of their attempts (public ids) is of no use any more."""

    async def close(self) -> None:
        """Let go of everything. What can live on without this process does."""
