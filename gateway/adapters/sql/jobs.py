"""What jobs say of their attempts: which of them began one, and how it ended."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Row, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import tables
from gateway.adapters.sql.mapping import signal_row
from gateway.adapters.sql.statements import Statements
from gateway.workflows.records import AttemptFound, SignalKind
from gateway.workflows.run import Attempt
from gateway.workflows.states import AttemptStatus, NodeStatus, is_attempt_over

KEY_BYTES = 32
_NAME = "attempts"
_OPEN = (AttemptStatus.INTENT, AttemptStatus.SUBMITTED, AttemptStatus.RUNNING)


async def job_key(connection: AsyncConnection, statements: Statements) -> bytes:
    found = select(tables.secret.c.value).where(tables.secret.c.name == _NAME)
    value = (await connection.execute(found)).scalar()
    if value is None:
        made = statements.insert_ignored(tables.secret).values(name=_NAME, value=secrets.token_hex(KEY_BYTES))
        await connection.execute(made)
        # Whoever was first has made the one that counts.
        value = (await connection.execute(found)).scalar_one()
    return bytes.fromhex(value)


async def attempt(connection: AsyncConnection, public: str) -> AttemptFound | None:
    row = await _row(connection, public)
    return None if row is None else _found(row)


async def start(
    connection: AsyncConnection, statements: Statements, public: str, job: str, now_ms: int
) -> AttemptFound | None:
    row = await _row(connection, public)
    if row is None:
        return None
    before = _found(row)
    if before.starter is not None or not before.wanted:
        return before
    found = tables.attempt.c
    free = and_(found.token == public, found.starter.is_(None), found.status.in_(_OPEN))
    taken = await connection.execute(update(tables.attempt).where(free).values(starter=job))
    if taken.rowcount:
        told = signal_row(before.run, SignalKind.REPORT, {"attempt": before.attempt}, now_ms)
        await statements.insert_signals(connection, [told])
        return before._replace(starter=job)
    return await attempt(connection, public)


async def end(
    connection: AsyncConnection, statements: Statements, public: str, job: str | None, body: Any, now_ms: int
) -> bool:
    found = tables.attempt.c
    mine = found.starter.is_(None) if job is None else found.starter.is_(None) | (found.starter == job)
    first = and_(found.token == public, found.told_ms.is_(None), found.status.in_(_OPEN), mine)
    key = (found.run, found.path, found.iteration, found.attempt)
    ended = await connection.execute(update(tables.attempt).where(first).values(told_ms=now_ms).returning(*key))
    row = ended.first()
    if row is None:
        return False
    whole = {"attempt": Attempt(row.path, row.iteration, row.attempt), **body}
    told = signal_row(row.run, SignalKind.REPORT, whole, now_ms)
    await statements.insert_signals(connection, [told])
    return True


async def _row(connection: AsyncConnection, public: str) -> Row[Any] | None:
    of, node = tables.attempt.c, tables.node.c
    at = and_(node.run == of.run, node.path == of.path, node.iteration == of.iteration)
    query = (
        select(tables.attempt, tables.run.c.account, node.status.label("node_status"))
        .join(tables.run, tables.run.c.id == of.run)
        .join(tables.node, at)
        .where(of.token == public)
    )
    return (await connection.execute(query)).first()


def _found(row: Row[Any]) -> AttemptFound:
    over = is_attempt_over(AttemptStatus(row.status)) or row.told_ms is not None
    wanted = not over and row.node_status == NodeStatus.RUNNING
    return AttemptFound(row.run, row.account, Attempt(row.path, row.iteration, row.attempt), row.starter, wanted, over)
