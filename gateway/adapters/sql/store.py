"""The WorkflowStore port on SQLite and PostgreSQL, from one code."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.adapters.sql import managers, schedules, tables
from gateway.adapters.sql.commit import commit
from gateway.adapters.sql.engine import make_engine, store_errors
from gateway.adapters.sql.mapping import (
    as_json,
    definition_of,
    detail_of,
    event_of,
    new_run_row,
    signal_of,
    signal_row,
    summary_of,
)
from gateway.adapters.sql.retention import delete_ended
from gateway.adapters.sql.schema import migrate
from gateway.adapters.sql.statements import statements
from gateway.errors import AttemptTakenError, ManagerReplacedError, StoreError
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
from gateway.workflows.run import WHOLE
from gateway.workflows.states import NodeStatus

_LIVE = tables.run.c.ended_ms.is_(None)


class SqlWorkflowStore:
    """See `gateway.workflows.ports.WorkflowStore`. `engine` None: one for `url` is made."""

    def __init__(self, url: URL, engine: AsyncEngine | None = None) -> None:
        self._engine = engine or make_engine(url)
        self._statements = statements(url.get_backend_name())

    async def open(self) -> None:
        with store_errors("schema"):
            await migrate(self._engine)

    async def close(self) -> None:
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def _unit(self, what: str) -> AsyncIterator[AsyncConnection]:
        with store_errors(what):
            async with self._engine.begin() as connection:
                yield connection

    # Definitions

    async def put_definition(
        self, account: str, name: str, spec: bytes, sha256: str, now_ms: int, next_ms: int | None = None
    ) -> StoredDefinition:
        async with self._unit("definition") as connection:
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
        async with self._unit("schedules") as connection:
            return await schedules.due_schedules(connection, now_ms, limit)

    async def move_schedule(self, due: DueSchedule, done_ms: int, next_ms: int | None) -> None:
        async with self._unit("schedules") as connection:
            await schedules.move_schedule(connection, due, done_ms, next_ms)

    async def definition(self, account: str, name: str, version: int | None = None) -> StoredDefinition | None:
        async with self._unit("definition") as connection:
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
        async with self._unit("definitions") as connection:
            return [definition_of(row) for row in await connection.execute(query)]

    # Runs

    async def create(self, news: Sequence[NewRun], manager: str | None) -> list[tuple[str, bool] | None]:
        async with self._unit("create") as connection:
            versions: dict[tuple[str, str, int | None], int | None] = {}
            for asked in {(new.account, new.name, new.version) for new in news}:
                definition = await self._newest(connection, *asked)
                versions[asked] = None if definition is None else definition.version
            rows = {
                new.id: new_run_row(new, version, manager)
                for new in news
                if (version := versions[new.account, new.name, new.version]) is not None
            }
            made: set[str] = set()
            if rows:
                inserted = await connection.execute(self._statements.insert_runs, as_json(rows.values()))
                made = {row.id for row in inserted}
            if made:
                begin = [signal_row(new.id, SignalKind.BEGIN, None, new.created_ms) for new in news if new.id in made]
                await connection.execute(self._statements.insert_signals, as_json(begin))
            return [await self._created(connection, new, made) if new.id in rows else None for new in news]

    async def _created(self, connection: AsyncConnection, new: NewRun, made: set[str]) -> tuple[str, bool]:
        if new.id in made:
            return new.id, True
        found = tables.run.c
        same = select(found.id).where(found.account == new.account, (found.key == new.key) | (found.id == new.id))
        run = (await connection.execute(same)).scalars().first()
        # Its own id: the call before this one has stored it, and its answer was lost.
        return str(run), run == new.id

    async def run(self, account: str, run: str) -> RunDetail | None:
        async with self._unit("run") as connection:
            query = select(tables.run).where(tables.run.c.id == run, tables.run.c.account == account)
            row = (await connection.execute(query)).first()
            if row is None:
                return None
            nodes = (await connection.execute(select(tables.node).where(tables.node.c.run == run))).all()
            return detail_of(row, nodes)

    async def runs(self, account: str, status: str | None, before: str | None, limit: int) -> list[RunSummary]:
        found = tables.run.c
        query = select(tables.run).where(found.account == account, found.parent_run.is_(None))
        if status is not None:
            query = query.where(found.status == status)
        if before is not None:
            query = query.where(found.id < before)
        async with self._unit("runs") as connection:
            return [summary_of(row) for row in await connection.execute(query.order_by(found.id.desc()).limit(limit))]

    async def events(self, account: str, run: str, after: int, limit: int) -> list[EventRecord] | None:
        found = tables.event.c
        async with self._unit("events") as connection:
            known = select(tables.run.c.id).where(tables.run.c.id == run, tables.run.c.account == account)
            if (await connection.execute(known)).first() is None:
                return None
            query = select(tables.event).where(found.run == run, found.revision > after)
            return [event_of(row) for row in await connection.execute(query.order_by(found.revision).limit(limit))]

    async def revisions(self, runs: Sequence[tuple[str, str]]) -> list[int]:
        async with self._unit("revisions") as connection:
            rows = await connection.execute(self._statements.revisions, as_json({"id": run} for _, run in runs))
            found = {(row.account, row.id): row.revision for row in rows}
            return [found.get(asked, 0) for asked in runs]

    async def signal(self, run: str, kind: SignalKind, body: Any, now_ms: int) -> None:
        async with self._unit("signal") as connection:
            await connection.execute(self._statements.insert_signals, as_json([signal_row(run, kind, body, now_ms)]))

    async def delete_ended(self, before_ms: int, limit: int) -> list[str] | None:
        async with self._unit("retention") as connection:
            return await delete_ended(connection, before_ms, limit)

    # For managers

    async def register(self, manager: str, incarnation: str, lease_s: float, *, again: bool = False) -> Lease:
        async with self._unit("register") as connection:
            lease = await managers.register(connection, manager, incarnation, lease_s, again=again)
        if lease is None:
            raise ManagerReplacedError(f"another process manages workflows as {manager}")
        return lease

    async def heartbeat(self, lease: Lease, lease_s: float, progress: int) -> bool:
        async with self._unit("heartbeat") as connection:
            return await managers.heartbeat(connection, lease, lease_s, progress)

    async def release_dead(self, lease: Lease) -> list[str]:
        async with self._unit("take over") as connection:
            return await managers.release_dead(connection, lease)

    async def retire(self, lease: Lease) -> None:
        async with self._unit("retire") as connection:
            await managers.retire(connection, lease)

    async def owned(self, lease: Lease) -> list[Owned]:
        found = tables.run.c
        query = select(found.id, found.epoch, found.wake_ms).where(found.manager == lease.manager, _LIVE)
        async with self._unit("owned") as connection:
            return [Owned(row.id, row.epoch, row.wake_ms) for row in await connection.execute(query.order_by(found.id))]

    async def at_work(self, lease: Lease) -> set[str]:
        node = tables.node.c
        mine = select(node.run).distinct().join(tables.run, tables.run.c.id == node.run)
        query = mine.where(
            tables.run.c.manager == lease.manager,
            _LIVE,
            node.iteration != WHOLE,
            node.status.in_([NodeStatus.RUNNING, NodeStatus.STOPPING]),
        )
        async with self._unit("at work") as connection:
            return set((await connection.execute(query)).scalars())

    async def claim(self, lease: Lease, limit: int) -> list[Owned]:
        asked = {"holder": lease.manager, "holder_fence": lease.fence, "most": limit}
        async with self._unit("claim") as connection:
            rows = await connection.execute(self._statements.claim, asked)
            return sorted(Owned(row.id, row.epoch, row.wake_ms) for row in rows)

    async def load(self, lease: Lease, runs: Sequence[Owned]) -> list[tuple[Owned, RunDetail]]:
        async with self._unit("load") as connection:
            asked = as_json({"id": one.id, "epoch": one.epoch} for one in runs)
            rows = (await connection.execute(self._statements.runs_of, {**asked, "holder": lease.manager})).all()
            nodes: dict[str, list[Any]] = {row.id: [] for row in rows}
            for node in await connection.execute(self._statements.nodes_of, as_json({"id": row.id} for row in rows)):
                nodes[node.run].append(node)
            return [(Owned(row.id, row.epoch, row.wake_ms), detail_of(row, nodes[row.id])) for row in rows]

    async def signals(self, lease: Lease, limit: int) -> list[tuple[Owned, Signal]]:
        async with self._unit("signals") as connection:
            asked = {"holder": lease.manager, "most": limit}
            rows = (await connection.execute(self._statements.signals, asked)).all()
            return [(Owned(row.run, row.epoch, row.wake_ms), signal_of(row)) for row in rows]

    async def commit(self, lease: Lease, changes: Changes, now_ms: int) -> set[str]:
        try:
            async with self._unit("commit") as connection:
                return await commit(connection, self._statements, lease, changes, now_ms)
        except IntegrityError as error:
            raise AttemptTakenError(f"the workflow store (commit): {error.orig}") from error
