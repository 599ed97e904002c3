"""The group commit of a manager: some statements for many runs, in one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import lines, tables
from gateway.adapters.sql.changing import ChangeRows
from gateway.adapters.sql.given_rows import ForRows
from gateway.adapters.sql.mapping import (
    attempt_change_rows,
    event_rows,
    new_attempt_rows,
    new_run_row,
    node_rows,
    parent_signal,
    run_change_row,
    signal_row,
)
from gateway.adapters.sql.notices import notify
from gateway.adapters.sql.quota import Quota
from gateway.adapters.sql.statements import Statements
from gateway.workflows.folding import MAX_DEPTH
from gateway.workflows.records import Change, Changes, Lease, NewRun, SignalKind


async def commit(
    connection: AsyncConnection, statements: Statements, quota: Quota, lease: Lease, changes: Changes, now_ms: int
) -> set[str]:
    """The ids of the runs whose changes are stored, which are still the manager's, and of nested runs that began."""
    rows = ChangeRows(
        [run_change_row(change) for change in changes],
        [row for change in changes for row in event_rows(change, now_ms)],
        [row for change in changes for row in node_rows(change)],
        [row for change in changes for row in new_attempt_rows(change, now_ms)],
        [row for change in changes for row in attempt_change_rows(change, now_ms)],
    )
    stored = await statements.change(connection, lease, rows)
    kept = [change for change in changes if change.state.id in stored]
    signals = [row for change in kept if (row := parent_signal(change, now_ms)) is not None]
    if signals:
        # Another manager may have the parent.
        await notify(connection)
    begun, refused = await _children(connection, statements, quota, lease, kept, now_ms)
    signals += refused
    await _write(connection, statements.insert_signals, signals)
    await _write(connection, statements.delete_signals, [(number,) for change in kept for number in change.heard])
    await lines.write(connection, statements, kept, now_ms)
    return stored | begun


async def _write(connection: AsyncConnection, statement: ForRows, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        await statement(connection, rows)


async def _children(
    connection: AsyncConnection,
    statements: Statements,
    quota: Quota,
    lease: Lease,
    kept: list[Change],
    now_ms: int,
) -> tuple[set[str], list[tuple[Any, ...]]]:
    """Insert nested runs: the ids of those that began, and signals that tell the parents of the others."""
    children = [child for change in kept for child in change.children]
    if not children:
        return set(), []
    versions = await _versions(connection, children)
    possible = [child for child in children if child.depth <= MAX_DEPTH and (child.account, child.name) in versions]
    admitted = await quota.admitted(connection, possible, now_ms)
    begun = [child for child in possible if child.id in admitted]
    rows = [new_run_row(child, versions[child.account, child.name], lease.manager) for child in begun]
    await _write(connection, statements.insert_runs, rows)
    signals: list[tuple[Any, ...]] = []
    for child in children:
        if child.id not in admitted and child.parent is not None:
            full = False
            if (child.account, child.name) not in versions:
                error = f"there is no definition {child.name}"
            elif child.depth > MAX_DEPTH:
                error = f"runs are nested {MAX_DEPTH} deep at most"
            else:
                full, error = True, f"the account has {quota.live_runs:,} live runs, as many as it may"
            body = {"attempt": child.parent.attempt, "status": None, "output": None, "error": error, "again": full}
            signals.append(signal_row(child.parent.run, SignalKind.CHILD, body, now_ms))
    return {child.id for child in begun}, signals


async def _versions(connection: AsyncConnection, children: list[NewRun]) -> dict[tuple[str, str], int]:
    found = tables.definition.c
    asked = {(child.account, child.name) for child in children}
    query = (
        select(found.account, found.name, func.max(found.version).label("version"))
        .where(found.account.in_({account for account, _ in asked}), found.name.in_({name for _, name in asked}))
        .group_by(found.account, found.name)
    )
    return {(row.account, row.name): row.version for row in await connection.execute(query)}
