"""What the part needs from outside: a store, and runners that do the work of nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from gateway.workflows.fleet import FleetSeen, Lead, Orders
from gateway.workflows.records import (
    AttemptFound,
    Changes,
    Created,
    DueSchedule,
    EventRecord,
    Lease,
    LineRecord,
    NewRun,
    NotCreated,
    Owned,
    RunDetail,
    RunSummary,
    Sign,
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
        """Those whose time has come, the earliest first.

        A store with a clock of its own goes by the earlier one: what one that is ahead has begun cannot be taken back.
        """

    async def move_schedule(self, due: DueSchedule, done_ms: int, next_ms: int | None) -> None:
        """It is due again at `next_ms`; None: never. Unless it was put anew, or somebody else has moved it."""

    # Runs

    async def create(self, news: Sequence[NewRun], manager: str | None) -> list[Created | NotCreated]:
        """Store runs, which their manager has to begin.

        `manager` None: whoever claims them. Harmless again with the same ids.
        """

    async def run(self, account: str, run: str) -> RunDetail | None:
        """A run of this account."""

    async def runs(self, account: str, status: str | None, before: str | None, limit: int) -> list[RunSummary]:
        """Runs of an account, the newest first, behind the id `before`."""

    async def events(self, account: str, run: str, after: int, limit: int) -> list[EventRecord] | None:
        """Events behind a revision, in order; None: there is no such run in this account."""

    async def page(self, account: str, run: str, after: int, limit: int) -> tuple[list[EventRecord], int] | None:
        """The same, and the run's revision as of then."""

    async def lines(self, account: str, after: int, limit: int) -> tuple[list[LineRecord], int, int]:
        """Lines of the list of an account's runs behind a number, in order; that behind which all are kept; the newest
        number that was given out."""

    async def newest_lines(self, accounts: Sequence[str]) -> list[int]:
        """The newest number of each account; 0: none was given out."""

    async def delete_lines(self, before_ms: int) -> None:
        """Delete those that are older."""

    async def revisions(self, runs: Sequence[tuple[str, str]]) -> list[int]:
        """The revision of each (account, run); 0 for one that is not there."""

    async def signal(self, run: str, kind: SignalKind, body: Any, now_ms: int) -> None:
        """Tell a run's manager something."""

    async def signals_told(self, told: Sequence[tuple[str, SignalKind, Any]], now_ms: int) -> None:
        """Tell the managers of several runs something, in one transaction."""

    # For jobs

    async def job_key(self) -> bytes:
        """The key of the secrets of attempts; made when it is asked for first, the same for all who share the store."""

    async def attempt(self, public: str) -> AttemptFound | None:
        """An attempt by its public id."""

    async def start_attempt(self, public: str, job: str, now_ms: int) -> AttemptFound | None:
        """Let `job` be the one that works on it, unless another one is, or it is not wanted any more. Its run is told
        in the same transaction. Harmless again."""

    async def end_attempt(self, public: str, job: str | None, body: Any, now_ms: int) -> bool:
        """Tell its run how an attempt ended; False: that is known, or another job works on it."""

    async def oldest_ended_ms(self) -> int | None:
        """When the first of the runs that are over ended (ms since the Unix epoch); None: there are none."""

    async def delete_ended(self, before_ms: int, limit: int) -> list[str] | None:
        """Delete some runs that ended before a time, with all that belongs to them; the public ids of their attempts.

        None: there are no more.
        """

    # For managers

    async def register(
        self, manager: str, incarnation: str, lease_s: float, *, again: bool = False, lock_key: int | None = None
    ) -> Lease:
        """Begin a life under this name: whoever had it before can write no more, and its runs are this one's.

        `again`: after a lease was lost. `lock_key`: see Sign. Raises ManagerReplacedError where somebody else has had
        the name since.
        """

    async def heartbeat(self, lease: Lease, lease_s: float, sign: Sign) -> bool:
        """Prolong a lease. False: it is lost."""

    async def retire(self, lease: Lease) -> None:
        """End a life: its runs are nobody's, for others to claim at once."""

    async def owned(self, lease: Lease) -> list[Owned]:
        """All runs of this manager that are not over."""

    async def at_work(self, lease: Lease) -> set[str]:
        """Those of them that have attempts at work."""

    async def claim(self, lease: Lease, limit: int) -> list[Owned]:
        """Take runs that no manager has: those offered to this one, and its share of those for anyone."""

    async def offered(self, lease: Lease, limit: int) -> list[str]:
        """Runs of this manager that it is to let go, the oldest offers first."""

    async def let_go(self, lease: Lease, runs: Sequence[Owned]) -> set[str]:
        """Those of its offered runs are nobody's, for whom they are offered to. The ids of them."""

    async def queued(self, lease: Lease, limit: int, but: Collection[str] = ()) -> list[Owned]:
        """Runs of this manager that nobody has begun, the oldest first; not those in `but`."""

    async def load(self, lease: Lease, runs: Sequence[Owned]) -> list[tuple[Owned, RunDetail | None]]:
        """Those that are still this manager's under the same epoch; None: it is there, and cannot be read."""

    async def signals(
        self, lease: Lease, limit: int, but: Collection[str] = (), *, orders: bool = False
    ) -> list[tuple[Owned, Signal]]:
        """What was told to runs of this manager, or only `orders` (cancel, resume), the oldest first; not to those in
        `but`."""

    async def commit(self, lease: Lease, changes: Changes, now_ms: int) -> set[str]:
        """Store all changes in one transaction; the ids of the runs that were still this manager's, and of nested runs
        that began. Of the others nothing is stored."""


class BalanceStore(Protocol):
    """What a rebalancer needs; see WorkflowStore for errors."""

    async def fleet(self, *, counted: bool) -> FleetSeen:
        """One look at all managers; their runs are counted only if asked."""

    async def lead(self, holder: str, lease_s: float, lock_key: int | None, gone: int | None) -> Lead | None:
        """Take or prolong the rebalancer's lease. None: another one has it.

        `gone` is the epoch of a holder whose process has died: it is not waited for.
        """

    async def obey(self, lead: Lead, orders: Orders) -> bool:
        """Carry out all orders in one transaction. False: somebody else leads, and nothing was done."""

    async def yield_lead(self, lead: Lead) -> None:
        """Let another lead at once."""


class Presence(Protocol):
    """What others can see of this process from outside."""

    @property
    def lock_key(self) -> int | None:
        """The session lock that it holds; None: none."""

    @property
    def may_act(self) -> bool:
        """False: others may take it for dead."""


class Alone:
    """Of a process that nobody watches."""

    lock_key = None
    may_act = True


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
    # Whether the service that does the work begins it once, however often it is asked for under one public id.
    deduplicates: bool
    # Whether another process may go on with an attempt that is at work.
    movable: bool

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        """What is wrong with what a node of this account asks for, its expressions not replaced; "" when nothing is."""

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        """An attempt whose INTENT is stored."""

    async def proceed(self, run: str, attempt: Attempt) -> None:
        """Where it will be found is stored."""

    async def adopt(
        self,
        run: str,
        account: str,
        attempt: Attempt,
        external: str | None,
        work: Mapping[str, Any],
        *,
        wanted: bool = True,
    ) -> None:
        """Go on with an attempt that an earlier process, or another manager, was asked for. `external` is where it is
        to be found; None: that was never stored. Not `wanted`: it must not begin if it has not, and `stop` follows."""

    async def stop(self, run: str, attempt: Attempt) -> None:
        """It is not wanted any more. Its end is reported all the same."""

    async def forget(self, attempts: Sequence[str]) -> None:
        """Runs are deleted: what was kept of their attempts (public ids) is of no use any more."""

    async def close(self) -> None:
        """Let go of everything. What can live on without this process does."""
