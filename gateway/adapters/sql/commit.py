"""The group commit of a manager: some statements for many runs, in one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import tables
from gateway.adapters.sql.mapping import (
    as_json,
    attempt_rows,
    event_rows,
    new_run_row,
    node_rows,
    parent_signal,
    run_change_row,
    signal_row,
)
from gateway.adapters.sql.statements import Statements
from gateway.workflows.records import Change, Changes, Lease, NewRun, SignalKind


async def commit(
    connection: AsyncConnection, statements: Statements, lease: Lease, changes: Changes, now_ms: int
) -> set[str]:
    """The ids of the runs whose changes are stored: those that are still the manager's."""
    asked = as_json(run_change_row(change) for change in changes)
    parameters = {**asked, "holder": lease.manager, "holder_fence": lease.fence}
    stored = {row.id for row in await connection.execute(statements.change_runs, parameters)}
    kept = [change for change in changes if change.state.id in stored]
    await _write(connection, statements.insert_events, [row for change in kept for row in event_rows(change, now_ms)])
    await _write(connection, statements.put_nodes, [row for change in kept for row in node_rows(change)])
    for begun, statement in ((True, statements.insert_attempts), (False, statements.change_attempts)):
        rows = [row for change in kept for row in attempt_rows(change, now_ms, begun=begun)]
        await _write(connection, statement, rows)
    signals = [row for change in kept if (row := parent_signal(change, now_ms)) is not None]
    signals += await _children(connection, statements, lease, kept, now_ms)
    await _write(connection, statements.insert_signals, signals)
    await _write(connection, statements.delete_signals, [{"id": number} for change in kept for number in change.heard])
    return stored


async def _write(connection: AsyncConnection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        await connection.execute(statement, as_json(rows))


async def _children(
    connection: AsyncConnection, statements: Statements, lease: Lease, kept: list[Change], now_ms: int
) -> list[dict[str, Any]]:
    """Insert nested runs; the signals that begin them, or tell their parents that there is no such definition."""
    children = [child for change in kept for child in change.children]
    if not children:
        return []
    versions = await _versions(connection, children)
    known = [child for child in children if (child.account, child.name) in versions]
    rows = [new_run_row(child, versions[child.account, child.name], lease.manager) for child in known]
    await _write(connection, statements.insert_runs, rows)
    signals = [signal_row(child.id, SignalKind.BEGIN, None, now_ms) for child in known]
    for child in children:
        if (child.account, child.name) not in versions and child.parent is not None:
            error = f"there is no definition {child.name}"
            body = {"attempt": child.parent.attempt, "status": None, "output": None, "error": error}
            signals.append(signal_row(child.parent.run, SignalKind.CHILD, body, now_ms))
    return signals


async def _versions(connection: AsyncConnection, children: list[NewRun]) -> dict[tuple[str, str], int]:
    found = tables.definition.c
    asked = {(child.account, child.name) for child in children}
    query = (
        select(found.account, found.name, func.max(found.version).label("version"))
        .where(found.account.in_({account for account, _ in asked}), found.name.in_({name for _, name in asked}))
        .group_by(found.account, found.name)
    )
    return {(row.account, row.name): row.version for row in await connection.execute(query)}
