"""What became of runs, stored for those that are still a manager's, under its fence.

On PostgreSQL in one statement: its server works while the manager decides what comes next. SQLite has no statement that
changes several tables; it gets one for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Table, case, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import tables
from gateway.adapters.sql.given_rows import WHOLE, ForRows, GivenRows, rows_of
from gateway.adapters.sql.managers import fenced
from gateway.adapters.sql.mapping import (
    ATTEMPT_CHANGE,
    ATTEMPT_KEY,
    NEW_ATTEMPT,
    NEW_EVENT,
    NEW_NODE,
    RUN_CHANGE,
    Values,
)
from gateway.workflows.records import Lease

_YES = literal(value=True)


class ChangeRows(NamedTuple):
    """Each but those of `runs` has the run's id in front. `begun` are new attempts, `known` others."""

    runs: Sequence[Values]
    events: Sequence[Values]
    nodes: Sequence[Values]
    begun: Sequence[Values]
    known: Sequence[Values]

    def only(self, runs: set[str]) -> ChangeRows:
        """Those of some runs."""
        return ChangeRows(*([row for row in rows if row[0] in runs] for rows in self))


class Changing:
    """`await` it with the rows; the ids of the runs that were still the manager's, and of which all was stored."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._runs, changed = self._change_runs()
        if dialect == "postgresql":
            stored = changed.cte("changed")
            parts = self._parts(select(stored.c.id))
            self._given = [self._runs, *(given for given, _ in parts)]
            ctes = [statement.cte(f"part_{number}") for number, (_, statement) in enumerate(parts)]
            self._whole: Any = select(stored.c.id).add_cte(*ctes)
        else:
            self._whole = None
            self._changed = ForRows(self._runs, changed)
            self._each = [ForRows(*part) for part in self._parts(None)]

    async def __call__(self, connection: AsyncConnection, lease: Lease, rows: ChangeRows) -> set[str]:
        holder = {"holder": lease.manager, "holder_fence": lease.fence}
        if self._whole is not None:
            parameters: dict[str, Any] = dict(holder)
            for given, some in zip(self._given, rows, strict=True):
                parameters |= given.of(some)
            return set((await connection.execute(self._whole, parameters)).scalars())
        stored = set((await self._changed(connection, rows.runs, **holder)).scalars())
        kept = rows if len(stored) == len(rows.runs) else rows.only(stored)
        for part, some in zip(self._each, kept[1:], strict=True):
            if some:
                await part(connection, some)
        return stored

    def _change_runs(self) -> tuple[GivenRows, Any]:
        """Only of runs that are still this manager's, at the revision that it knows, while its fence is up."""
        rows = rows_of(self._dialect, tables.run, ("id", "epoch", "before", *RUN_CHANGE), "runs", before=WHOLE)
        up = fenced()
        if self._dialect == "postgresql":
            # A take-over that raises the fence waits for this transaction, or this one for it.
            up = up.with_for_update(read=True)
        run = tables.run.c
        mine = (run.id == rows.c.id, run.epoch == rows.c.epoch, run.revision == rows.c.before)
        # Of a run that is over nobody is offered anything; one that is resumed must not go to a manager of then.
        offered = case((rows.c.ended_ms.is_(None), run.offered), else_=None)
        changed = update(tables.run).values({**{name: rows.c[name] for name in RUN_CHANGE}, "offered": offered})
        return rows, changed.where(*mine, run.manager == up.scalar_subquery()).returning(run.id)

    def _parts(self, stored: Any) -> list[tuple[GivenRows, Any]]:
        """In the order of ChangeRows. `stored` are the runs of which they are stored; None: all that are given."""
        return [
            self._insert(tables.event, NEW_EVENT, "events", stored),
            self._put_nodes(stored),
            self._insert(tables.attempt, NEW_ATTEMPT, "begun", stored),
            self._change_attempts(stored),
        ]

    def _insert(self, table: Table, names: tuple[str, ...], called: str, stored: Any) -> tuple[GivenRows, Any]:
        rows = rows_of(self._dialect, table, names, called)
        # SQLite takes ON CONFLICT behind a SELECT without WHERE for a join.
        chosen = select(*(rows.c[name] for name in names)).where(_among(rows, stored))
        insert = postgresql.insert if self._dialect == "postgresql" else sqlite.insert
        return rows, insert(table).from_select(list(names), chosen)

    def _put_nodes(self, stored: Any) -> tuple[GivenRows, Any]:
        rows, made = self._insert(tables.node, NEW_NODE, "nodes", stored)
        changed = {"status": made.excluded.status, "body": made.excluded.body}
        return rows, made.on_conflict_do_update(index_elements=["run", "path", "iteration"], set_=changed)

    def _change_attempts(self, stored: Any) -> tuple[GivenRows, Any]:
        found = tables.attempt.c
        rows = rows_of(self._dialect, tables.attempt, (*ATTEMPT_KEY, *ATTEMPT_CHANGE), "known")
        same: list[ColumnElement[bool]] = [found[name] == rows.c[name] for name in ATTEMPT_KEY]
        changed = update(tables.attempt).values({name: rows.c[name] for name in ATTEMPT_CHANGE})
        return rows, changed.where(*same, _among(rows, stored))


def _among(rows: GivenRows, stored: Any) -> ColumnElement[bool]:
    return _YES if stored is None else rows.c.run.in_(stored)
