"""The statements of the store that write many rows at once, made once for a database."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Delete, Insert, Select, Table, Update, bindparam, delete, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import BigInteger, Integer, Text

from gateway.adapters.sql import tables
from gateway.adapters.sql.json_rows import SMALL, TEXT, WHOLE, json_rows

_KINDS = {BigInteger: WHOLE, Integer: SMALL}
ATTEMPT_KEY = ("run", "path", "iteration", "attempt")
_RUN_CHANGE = ("status", "revision", "wake_ms", "output", "error", "started_ms", "deadline_ms", "ended_ms")


class Statements:
    """`dialect` is sqlite or postgresql; each statement takes its rows as the parameter `rows`."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.insert_runs = self._insert(tables.run).returning(tables.run.c.id)
        self.insert_signals = self._insert(tables.signal, leave=("id",))
        self.insert_events = self._insert(tables.event, ignore=False)
        self.insert_attempts = self._insert(tables.attempt, ignore=False)
        self.put_nodes = self._put_nodes()
        self.change_runs = self._change_runs()
        self.change_attempts = self._change_attempts()
        self.delete_signals = self._delete_signals()
        self.runs_of = self._runs_of()
        self.nodes_of = self._nodes_of()
        self.revisions = self._revisions()
        self.claim = self._claim()
        self.signals = self._signals()

    def rows(self, columns: dict[str, Any]) -> Any:
        """The rows that are given."""
        return json_rows(self.dialect, "rows", columns)

    def _insert(self, table: Table, *, leave: tuple[str, ...] = (), ignore: bool = True) -> Any:
        columns = {column.name: _kind(column.type) for column in table.c if column.name not in leave}
        rows = self.rows(columns)
        made = self._dialect_insert(table).from_select(
            list(columns), select(*(rows.c[name] for name in columns)).where(literal(value=True))
        )
        return made.on_conflict_do_nothing() if ignore else made

    def _dialect_insert(self, table: Table) -> Any:
        return postgresql.insert(table) if self.dialect == "postgresql" else sqlite.insert(table)

    def _put_nodes(self) -> Insert:
        columns = {column.name: _kind(column.type) for column in tables.node.c}
        rows = self.rows(columns)
        chosen = select(*(rows.c[name] for name in columns)).where(literal(value=True))
        made = self._dialect_insert(tables.node).from_select(list(columns), chosen)
        put: Insert = made.on_conflict_do_update(
            index_elements=["run", "path", "iteration"],
            set_={"status": made.excluded.status, "body": made.excluded.body},
        )
        return put

    def _change_runs(self) -> Update:
        """Only of runs that are still this manager's, at the revision that it knows, while its fence is up."""
        kinds = {name: _kind(tables.run.c[name].type) for name in _RUN_CHANGE}
        rows = self.rows({"id": TEXT, "epoch": WHOLE, "before": WHOLE, **kinds})
        fenced = _fenced()
        if self.dialect == "postgresql":
            # A take-over that raises the fence waits for this transaction, or this one for it.
            fenced = fenced.with_for_update(read=True)
        return (
            update(tables.run)
            .values({name: rows.c[name] for name in _RUN_CHANGE})
            .where(
                tables.run.c.id == rows.c.id,
                tables.run.c.epoch == rows.c.epoch,
                tables.run.c.revision == rows.c.before,
                tables.run.c.manager == fenced.scalar_subquery(),
            )
            .returning(tables.run.c.id)
        )

    def _change_attempts(self) -> Update:
        found = tables.attempt.c
        rows = self.rows(
            {
                **{name: _kind(found[name].type) for name in ATTEMPT_KEY},
                "status": TEXT,
                "external": TEXT,
                "error": TEXT,
                "changed_ms": WHOLE,
            }
        )
        same: list[ColumnElement[bool]] = [found[name] == rows.c[name] for name in ATTEMPT_KEY]
        changed = {name: rows.c[name] for name in ("status", "external", "error", "changed_ms")}
        return update(tables.attempt).values(changed).where(*same)

    def _delete_signals(self) -> Delete:
        rows = self.rows({"id": WHOLE})
        return delete(tables.signal).where(tables.signal.c.id.in_(select(rows.c.id)))

    def _runs_of(self) -> Select[Any]:
        rows = self.rows({"id": TEXT, "epoch": WHOLE})
        owned = (
            tables.run.c.id == rows.c.id,
            tables.run.c.epoch == rows.c.epoch,
            tables.run.c.manager == bindparam("holder"),
        )
        return select(tables.run).where(*owned)

    def _revisions(self) -> Select[Any]:
        found = tables.run.c
        rows = self.rows({"id": TEXT})
        return select(found.account, found.id, found.revision).where(found.id.in_(select(rows.c.id)))

    def _claim(self) -> Update:
        """Runs that nobody has, for a manager whose fence is up."""
        found = tables.run.c
        free = select(found.id).where(found.manager.is_(None), found.ended_ms.is_(None), _fenced().exists())
        some = free.order_by(found.id).limit(bindparam("most", type_=Integer())).with_for_update(skip_locked=True)
        taken = {"manager": bindparam("holder", type_=Text()), "epoch": found.epoch + 1}
        return (
            update(tables.run).where(found.id.in_(some)).values(taken).returning(found.id, found.epoch, found.wake_ms)
        )

    def _signals(self) -> Select[Any]:
        """What was told to a manager's runs, the oldest first."""
        found, run = tables.signal.c, tables.run.c
        mine = select(tables.signal, run.epoch, run.wake_ms).join(tables.run, run.id == found.run)
        mine = mine.where(run.manager == bindparam("holder", type_=Text()))
        return mine.order_by(found.id).limit(bindparam("most", type_=Integer()))

    def _nodes_of(self) -> Select[Any]:
        rows = self.rows({"id": TEXT})
        return select(tables.node).where(tables.node.c.run.in_(select(rows.c.id)))


def _fenced() -> Select[tuple[str]]:
    """The manager `holder`, if `holder_fence` is its fence."""
    found = tables.manager.c
    return select(found.id).where(
        found.id == bindparam("holder", type_=Text()), found.fence == bindparam("holder_fence", type_=BigInteger())
    )


@lru_cache
def statements(dialect: str) -> Statements:
    """Those of a database; they hold nothing of a connection."""
    return Statements(dialect)


def _kind(kind: Any) -> Any:
    return next((found for known, found in _KINDS.items() if isinstance(kind, known)), TEXT)
