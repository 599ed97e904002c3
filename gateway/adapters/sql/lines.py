"""The list of an account's runs: a line for each transition of a whole run, numbered without a gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import tables
from gateway.adapters.sql.statements import Statements
from gateway.workflows.records import Change, LineRecord, RunLine
from gateway.workflows.states import RunStatus
from gateway.workflows.step import Kind

STATUS: Mapping[Kind, RunStatus] = {
    Kind.RUN_STARTED: RunStatus.RUNNING,
    Kind.RUN_RESUMED: RunStatus.RUNNING,
    Kind.RUN_FAILING: RunStatus.FAILING,
    Kind.RUN_CANCELLING: RunStatus.CANCELLING,
    Kind.RUN_OK: RunStatus.OK,
    Kind.RUN_FAILED: RunStatus.FAILED,
    Kind.RUN_CANCELLED: RunStatus.CANCELLED,
}
_encode = msgspec.json.Encoder().encode
_line = msgspec.json.Decoder(RunLine).decode


async def write(connection: AsyncConnection, statements: Statements, changes: list[Change], now_ms: int) -> None:
    """Of runs that are nobody's part. Last in a transaction: whoever numbers lines of the same account waits for it."""
    told: dict[str, list[RunLine]] = {}
    for change in changes:
        if change.parent is None:
            told.setdefault(change.account, []).extend(_lines(change))
    counts = [(account, len(told[account])) for account in sorted(told) if told[account]]
    if not counts:
        return
    newest = {row.account: row.newest for row in await statements.number_lines(connection, counts)}
    rows = [
        (account, newest[account] - len(told[account]) + 1 + place, now_ms, _encode(line).decode())
        for account in newest
        for place, line in enumerate(told[account])
    ]
    await statements.insert_lines(connection, rows)


def _lines(change: Change) -> Iterator[RunLine]:
    state = change.state
    for place, event in enumerate(change.events):
        status = STATUS.get(event.kind)
        if status is not None:
            yield RunLine(state.id, state.name, state.version, status, change.before + 1 + place, event.error)


async def read(connection: AsyncConnection, account: str, after: int, limit: int) -> tuple[list[LineRecord], int, int]:
    found = tables.line.c
    newest = (await _newest(connection, [account])).get(account, 0)
    query = select(tables.line).where(found.account == account, found.number > after).order_by(found.number)
    rows = [
        LineRecord(row.number, row.time_ms, _line(row.body)) for row in await connection.execute(query.limit(limit))
    ]
    first = (await connection.execute(select(func.min(found.number)).where(found.account == account))).scalar()
    return rows, newest if first is None else first - 1, max(newest, rows[-1].number if rows else 0)


async def newest(connection: AsyncConnection, accounts: Sequence[str]) -> list[int]:
    found = await _newest(connection, accounts)
    return [found.get(account, 0) for account in accounts]


async def _newest(connection: AsyncConnection, accounts: Sequence[str]) -> dict[str, int]:
    of: Any = tables.account_log.c
    query = select(of.account, of.newest).where(of.account.in_(set(accounts)))
    return {row.account: row.newest for row in await connection.execute(query)}


async def delete_old(connection: AsyncConnection, before_ms: int) -> None:
    """From the oldest on, so that what is kept has no hole: clocks of managers differ."""
    found = tables.line.c
    last = select(found.account, func.max(found.number).label("number")).where(found.time_ms < before_ms)
    for row in (await connection.execute(last.group_by(found.account))).all():
        old = delete(tables.line).where(found.account == row.account, found.number <= row.number)
        await connection.execute(old)
