"""The WorkflowStore port on SQLite and PostgreSQL, from one code."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.adapters.sql import jobs, lines, managers, schedules, tables
from gateway.adapters.sql.commit import commit
from gateway.adapters.sql.engine import IDLE_S, make_engine, store_errors
from gateway.adapters.sql.mapping import (
    definition_of,
    detail_of,
    event_of,
    new_run_row,
    readable,
    signal_of,
    signal_row,
    summary_of,
)
from gateway.adapters.sql.notices import notify
from gateway.adapters.sql.patience import Patience
from gateway.adapters.sql.quota import Quota
from gateway.adapters.sql.retention import delete_ended, oldest_ended_ms
from gateway.adapters.sql.schema import migrate
from gateway.adapters.sql.statements import statements
from gateway.adapters.sql.store_file import open_file
from gateway.errors import AttemptTakenError, ManagerReplacedError, StoreError
from gateway.telemetry.log import Log
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
from gateway.workflows.run import WHOLE
from gateway.workflows.states import NodeStatus

_LIVE = tables.run.c.ended_ms.is_(None)

_log = Log("workflows")


class SqlWorkflowStore:
    """See `gateway.workflows.ports.WorkflowStore`. `engine` None: one for `url` is made. `live_runs`: see Quota."""

    def __init__(
        self, url: URL, engine: AsyncEngine | None = None, *, idle_s: float = IDLE_S, live_runs: int | None = None
    ) -> None:
        self._url = url
        self._engine = engine or make_engine(url, idle_s)
        self._patience = Patience()
        if url.get_backend_name() == "postgresql":
            self._patience.watch(self._engine)
        self._statements = statements(url.get_backend_name())
        self._quota = Quota(live_runs)

    async def open(self) -> None:
        name = self._url.database
        if self._url.get_backend_name() == "sqlite" and name and name != ":memory:":
            await open_file(self._engine, Path(name))
        else:
            with store_errors("schema"):
                await migrate(self._engine)

    async def close(self) -> None:
        await self._engine.dispose()

    def give_up(self) -> None:
        """Whatever waits for the server fails at once, `close` too, and what is asked later."""
        self._patience.end()

    @contextlib.asynccontextmanager
    async def unit(self, what: str) -> AsyncIterator[AsyncConnection]:
        """One transaction. Raises StoreError."""
        with store_errors(what):
            async with self._patience.bounded(), self._engine.begin() as connection:
                yield connection

    # Definitions

    async def put_definition(
        self, account: str, name: str, spec: bytes, sha256: str, now_ms: int, next_ms: int | None = None
    ) -> StoredDefinition:
        async with self.unit("definition") as connection:
            newest = await self._newest(connection, account, name)
            if newest is not None and newest.sha256 == sha256:
                return newest
            made = StoredDefinition(name, 1 if newest is None else newest.version + 1, spec, sha256, now_ms)
            values = {
                "account": account,
                "name": name,
                "version": made.version,
                "spec": spec.decode(),
                "sha256": sha256,
            }
            try:
                await connection.execute(insert(tables.definition).values(**values, created_ms=now_ms))
            except IntegrityError as error:
                raise StoreError(f"another version of {name} was stored at the same time; put it again") from error
            await schedules.put_schedule(connection, account, name, now_ms, next_ms)
            return made

    async def due_schedules(self, now_ms: int, limit: int) -> list[DueSchedule]:
        async with self.unit("schedules") as connection:
            return await schedules.due_schedules(connection, now_ms, limit)

    async def move_schedule(self, due: DueSchedule, done_ms: int, next_ms: int | None) -> None:
        async with self.unit("schedules") as connection:
            await schedules.move_schedule(connection, due, done_ms, next_ms)

    async def definition(self, account: str, name: str, version: int | None = None) -> StoredDefinition | None:
        async with self.unit("definition") as connection:
            return await self._newest(connection, account, name, version)

    async def _newest(
        self, connection: AsyncConnection, account: str, name: str, version: int | None = None
    ) -> StoredDefinition | None:
        found = tables.definition.c
        query = select(tables.definition).where(found.account == account, found.name == name)
        if version is not None:
            query = query.where(found.version == version)
        row = (await connection.execute(query.order_by(found.version.desc()).limit(1))).first()
        return None if row is None else definition_of(row)

    async def definitions(self, account: str, after: str, limit: int) -> list[StoredDefinition]:
        found = tables.definition.c
        newest = (
            select(found.name, func.max(found.version).label("version"))
            .where(found.account == account, found.name > after)
            .group_by(found.name)
            .order_by(found.name)
            .limit(limit)
            .subquery()
        )
        query = (
            select(tables.definition)
            .join(newest, (found.name == newest.c.name) & (found.version == newest.c.version))
            .where(found.account == account)
            .order_by(found.name)
        )
        async with self.unit("definitions") as connection:
            return [definition_of(row) for row in await connection.execute(query)]

    # Runs

    async def create(self, news: Sequence[NewRun], manager: str | None) -> list[Created | NotCreated]:
        async with self.unit("create") as connection:
            versions: dict[tuple[str, str, int | None], int] = {}
            for asked in {(new.account, new.name, new.version) for new in news}:
                definition = await self._newest(connection, *asked)
                if definition is not None:
                    versions[asked] = definition.version
            known = {new.id: version for new in news if (version := versions.get((new.account, new.name, new.version)))}
            made: set[str] = set()
            if known:
                asking = [new for new in news if new.id in known]
                admitted = await self._quota.admitted(connection, asking, max(new.created_ms for new in asking))
                rows = [new_run_row(new, known[new.id], manager) for new in asking if new.id in admitted]
                made = set((await self._statements.insert_runs(connection, rows)).scalars())
            if made and manager is None:
                await notify(connection)
            return [
                await self._created(connection, new, made, known[new.id])
                if new.id in known
                else NotCreated.NO_DEFINITION
                for new in news
            ]

    async def _created(
        self, connection: AsyncConnection, new: NewRun, made: set[str], version: int
    ) -> Created | NotCreated:
        if new.id in made:
            return Created(new.id, new=True, version=version)
        found = tables.run.c
        same = found.id == new.id
        if new.key is not None:  # else all runs without one would be the same
            same |= found.key == new.key
        query = select(found.id).where(found.account == new.account, same)
        run = (await connection.execute(query)).scalars().first()
        if run is None:
            return NotCreated.TOO_MANY
        # Its own id: the call before this one has stored it, and its answer was lost.
        return Created(str(run), run == new.id, version)

    async def run(self, account: str, run: str) -> RunDetail | None:
        async with self.unit("run") as connection:
            query = select(tables.run).where(tables.run.c.id == run, tables.run.c.account == account)
            row = (await connection.execute(query)).first()
            if row is None:
                return None
            nodes = (await connection.execute(select(tables.node).where(tables.node.c.run == run))).all()
            with readable(run):
                return detail_of(row, nodes)

    async def runs(self, account: str, status: str | None, before: str | None, limit: int) -> list[RunSummary]:
        found = tables.run.c
        query = select(tables.run).where(found.account == account, found.parent_run.is_(None))
        if status is not None:
            query = query.where(found.status == status)
        if before is not None:
            query = query.where(found.id < before)
        async with self.unit("runs") as connection:
            return [summary_of(row) for row in await connection.execute(query.order_by(found.id.desc()).limit(limit))]

    async def events(self, account: str, run: str, after: int, limit: int) -> list[EventRecord] | None:
        found = tables.event.c
        async with self.unit("events") as connection:
            known = select(tables.run.c.id).where(tables.run.c.id == run, tables.run.c.account == account)
            if (await connection.execute(known)).first() is None:
                return None
            query = select(tables.event).where(found.run == run, found.revision > after)
            return [event_of(row) for row in await connection.execute(query.order_by(found.revision).limit(limit))]

    async def page(self, account: str, run: str, after: int, limit: int) -> tuple[list[EventRecord], int] | None:
        found = tables.event.c
        async with self.unit("events") as connection:
            known = select(tables.run.c.revision).where(tables.run.c.id == run, tables.run.c.account == account)
            revision = (await connection.execute(known)).scalar()
            if revision is None:
                return None
            query = select(tables.event).where(found.run == run, found.revision > after)
            rows = await connection.execute(query.order_by(found.revision).limit(limit))
            events = [event_of(row) for row in rows]
            return events, max(revision, events[-1].revision if events else 0)

    async def lines(self, account: str, after: int, limit: int) -> tuple[list[LineRecord], int, int]:
        async with self.unit("lines") as connection:
            return await lines.read(connection, account, after, limit)

    async def newest_lines(self, accounts: Sequence[str]) -> list[int]:
        async with self.unit("lines") as connection:
            return await lines.newest(connection, accounts)

    async def delete_lines(self, before_ms: int) -> None:
        async with self.unit("retention") as connection:
            await lines.delete_old(connection, before_ms)

    async def revisions(self, runs: Sequence[tuple[str, str]]) -> list[int]:
        async with self.unit("revisions") as connection:
            rows = await self._statements.revisions(connection, [(run,) for _, run in runs])
            found = {(row.account, row.id): row.revision for row in rows}
            return [found.get(asked, 0) for asked in runs]

    async def signal(self, run: str, kind: SignalKind, body: Any, now_ms: int) -> None:
        await self.signals_told([(run, kind, body)], now_ms)

    async def signals_told(self, told: Sequence[tuple[str, SignalKind, Any]], now_ms: int) -> None:
        async with self.unit("signal") as connection:
            rows = [signal_row(*one, now_ms) for one in told]
            await self._statements.insert_signals(connection, rows)
            await notify(connection)

    # For jobs

    async def job_key(self) -> bytes:
        async with self.unit("key") as connection:
            return await jobs.job_key(connection, self._statements)

    async def attempt(self, public: str) -> AttemptFound | None:
        async with self.unit("attempt") as connection:
            return await jobs.attempt(connection, public)

    async def start_attempt(self, public: str, job: str, now_ms: int) -> AttemptFound | None:
        async with self.unit("start") as connection:
            found = await jobs.start(connection, self._statements, public, job, now_ms)
            await notify(connection)
            return found

    async def end_attempt(self, public: str, job: str | None, body: Any, now_ms: int) -> bool:
        async with self.unit("end") as connection:
            ended = await jobs.end(connection, self._statements, public, job, body, now_ms)
            await notify(connection)
            return ended

    async def oldest_ended_ms(self) -> int | None:
        async with self.unit("retention") as connection:
            return await oldest_ended_ms(connection)

    async def delete_ended(self, before_ms: int, limit: int) -> list[str] | None:
        async with self.unit("retention") as connection:
            return await delete_ended(connection, before_ms, limit)

    # For managers

    async def register(
        self, manager: str, incarnation: str, lease_s: float, *, again: bool = False, lock_key: int | None = None
    ) -> Lease:
        async with self.unit("register") as connection:
            lease = await managers.register(connection, manager, incarnation, lease_s, again=again, lock_key=lock_key)
        if lease is None:
            raise ManagerReplacedError(f"another process manages workflows as {manager}")
        return lease

    async def heartbeat(self, lease: Lease, lease_s: float, sign: Sign) -> bool:
        async with self.unit("heartbeat") as connection:
            return await managers.heartbeat(connection, lease, lease_s, sign)

    async def retire(self, lease: Lease) -> None:
        async with self.unit("retire") as connection:
            await managers.retire(connection, lease)
            await notify(connection)

    async def owned(self, lease: Lease) -> list[Owned]:
        found = tables.run.c
        query = select(found.id, found.account, found.epoch, found.wake_ms).where(found.manager == lease.manager, _LIVE)
        async with self.unit("owned") as connection:
            rows = await connection.execute(query.order_by(found.id))
            return [Owned(row.id, row.account, row.epoch, row.wake_ms) for row in rows]

    async def at_work(self, lease: Lease) -> set[str]:
        node = tables.node.c
        mine = select(node.run).distinct().join(tables.run, tables.run.c.id == node.run)
        query = mine.where(
            tables.run.c.manager == lease.manager,
            _LIVE,
            node.iteration != WHOLE,
            node.status.in_([NodeStatus.RUNNING, NodeStatus.STOPPING]),
        )
        async with self.unit("at work") as connection:
            return set((await connection.execute(query)).scalars())

    async def claim(self, lease: Lease, limit: int) -> list[Owned]:
        asked = {"holder": lease.manager, "holder_fence": lease.fence, "most": limit}
        claimed: list[Owned] = []
        async with self.unit("claim") as connection:
            for statement in (self._statements.claim_offered, self._statements.claim_share):
                for row in await connection.execute(statement, asked):
                    claimed.append(Owned(row.id, row.account, row.epoch, row.wake_ms, max(0, row.hold_ms or 0)))
        return sorted(claimed)

    async def offered(self, lease: Lease, limit: int) -> list[str]:
        async with self.unit("offers") as connection:
            asked = {"holder": lease.manager, "most": limit}
            return list((await connection.execute(self._statements.offers, asked)).scalars())

    async def let_go(self, lease: Lease, runs: Sequence[Owned]) -> set[str]:
        asked = [(one.id, one.epoch) for one in runs]
        async with self.unit("let go") as connection:
            given = await self._statements.let_go(connection, asked, holder=lease.manager, holder_fence=lease.fence)
            gone = set(given.scalars())
            await notify(connection)
            return gone

    async def queued(self, lease: Lease, limit: int, but: Collection[str] = ()) -> list[Owned]:
        async with self.unit("queued") as connection:
            given = [(run,) for run in but]
            rows = await self._statements.queued(connection, given, holder=lease.manager, most=limit)
            return [Owned(row.id, row.account, row.epoch, None) for row in rows]

    async def load(self, lease: Lease, runs: Sequence[Owned]) -> list[tuple[Owned, RunDetail | None]]:
        async with self.unit("load") as connection:
            asked = [(one.id, one.epoch) for one in runs]
            rows = (await self._statements.runs_of(connection, asked, holder=lease.manager)).all()
            nodes: dict[str, list[Any]] = {row.id: [] for row in rows}
            for node in await self._statements.nodes_of(connection, [(row.id,) for row in rows]):
                nodes[node.run].append(node)
            found: list[tuple[Owned, RunDetail | None]] = []
            for row in rows:
                detail: RunDetail | None = None
                try:
                    with readable(row.id):
                        detail = detail_of(row, nodes[row.id])
                except StoreError as error:
                    # It stands; the others go on.
                    _log.error("workflow_run_unreadable", run=row.id, message=str(error))
                found.append((Owned(row.id, row.account, row.epoch, row.wake_ms), detail))
            return found

    async def signals(
        self, lease: Lease, limit: int, but: Collection[str] = (), *, orders: bool = False
    ) -> list[tuple[Owned, Signal]]:
        statement = self._statements.orders if orders else self._statements.signals
        async with self.unit("signals") as connection:
            given = [(run,) for run in but]
            rows = await statement(connection, given, holder=lease.manager, most=limit)
            return [(Owned(row.run, row.account, row.epoch, row.wake_ms), _signal(row)) for row in rows]

    async def commit(self, lease: Lease, changes: Changes, now_ms: int) -> set[str]:
        try:
            async with self.unit("commit") as connection:
                return await commit(connection, self._statements, self._quota, lease, changes, now_ms)
        except IntegrityError as error:
            raise AttemptTakenError(f"the workflow store (commit): {error.orig}") from error


def _signal(row: Any) -> Signal:
    try:
        with readable(row.run):
            return signal_of(row)
    except StoreError as error:
        _log.error("workflow_run_unreadable", run=row.run, message=str(error))
        return Signal(row.id, row.run, SignalKind.UNREADABLE, None)
