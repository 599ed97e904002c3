"""The statements of the store that write many rows at once, made once for a database."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Select,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import Integer, Text

from gateway.adapters.sql import tables
from gateway.adapters.sql.changing import Changing
from gateway.adapters.sql.given_rows import ForRows, GivenRows, rows_of
from gateway.adapters.sql.managers import ACTIVE, fenced, now_ms
from gateway.adapters.sql.mapping import (
    NEW_LINE,
    NEW_RUN,
    NEW_SIGNAL,
)


class Statements:
    """`dialect` is sqlite or postgresql."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.insert_runs = self._insert_runs()
        self.insert_signals = self._insert(tables.signal, NEW_SIGNAL)
        self.insert_lines = self._insert(tables.line, NEW_LINE)
        self.number_lines = self._number_lines()
        self.change = Changing(dialect)
        self.delete_signals = self._delete_signals()
        self.runs_of = self._runs_of()
        self.nodes_of = self._nodes_of()
        self.revisions = self._revisions()
        self.claim_offered = self._claim(offered=True)
        self.claim_share = self._claim(offered=False)
        self.offers = self._offers()
        self.let_go = self._let_go()
        self.signals = self._signals()
        self.orders = self._signals(tables.ORDER)
        self.queued = self._queued()

    def insert_ignored(self, table: Table) -> Any:
        """An insert that leaves a row alone that is there already; its values are still to be given."""
        return self._dialect_insert(table).on_conflict_do_nothing()

    def _insert(self, table: Table, names: Sequence[str]) -> ForRows:
        return ForRows(*self._inserted(table, names))

    def _inserted(self, table: Table, names: Sequence[str]) -> tuple[GivenRows, Any]:
        rows = rows_of(self.dialect, table, names)
        # SQLite takes ON CONFLICT behind a SELECT without WHERE for a join.
        chosen = select(*(rows.c[name] for name in names)).where(literal(value=True))
        return rows, self._dialect_insert(table).from_select(list(names), chosen)

    def _insert_runs(self) -> ForRows:
        """The ids of those that are new."""
        rows, made = self._inserted(tables.run, NEW_RUN)
        return ForRows(rows, made.on_conflict_do_nothing().returning(tables.run.c.id))

    def _dialect_insert(self, table: Table) -> Any:
        return postgresql.insert(table) if self.dialect == "postgresql" else sqlite.insert(table)

    def _number_lines(self) -> ForRows:
        """Give out so many numbers an account; the last one of each."""
        rows, made = self._inserted(tables.account_log, ("account", "newest"))
        more = tables.account_log.c.newest + made.excluded.newest
        counted = made.on_conflict_do_update(index_elements=["account"], set_={"newest": more})
        return ForRows(rows, counted.returning(tables.account_log.c.account, tables.account_log.c.newest))

    def _delete_signals(self) -> ForRows:
        rows = rows_of(self.dialect, tables.signal, ("id",))
        return ForRows(rows, delete(tables.signal).where(tables.signal.c.id.in_(select(rows.c.id))))

    def _runs_of(self) -> ForRows:
        rows = rows_of(self.dialect, tables.run, ("id", "epoch"))
        owned = (
            tables.run.c.id == rows.c.id,
            tables.run.c.epoch == rows.c.epoch,
            tables.run.c.manager == bindparam("holder"),
        )
        return ForRows(rows, select(tables.run).where(*owned))

    def _revisions(self) -> ForRows:
        found = tables.run.c
        rows = rows_of(self.dialect, tables.run, ("id",))
        asked = select(found.account, found.id, found.revision).where(found.id.in_(select(rows.c.id)))
        return ForRows(rows, asked)

    def _claim(self, *, offered: bool) -> Update:
        """Runs that nobody has, for a manager whose fence is up: those offered to it, or its share of the others."""
        found = tables.run.c
        holder = bindparam("holder", type_=Text())
        mine = found.offered == holder if offered else and_(found.offered.is_(None), ~_reserved(self.dialect))
        free = [found.manager.is_(None), found.ended_ms.is_(None), mine]
        some = select(found.id).where(*free, fenced().exists()).order_by(found.id)
        most: Any = bindparam("most", type_=Integer())
        if not offered:
            share = select((func.count() + _managers() - 1) // _managers()).where(*free).scalar_subquery()
            most = case((share < most, share), else_=most)
        taken = {"manager": holder, "epoch": found.epoch + 1, "offered": None}
        return (
            update(tables.run)
            .where(found.id.in_(some.limit(most).with_for_update(skip_locked=True)))
            .values(taken)
            .returning(
                found.id,
                found.account,
                found.epoch,
                found.wake_ms,
                (found.hold_until_ms - now_ms(self.dialect)).label("hold_ms"),
            )
        )

    def _offers(self) -> Select[Any]:
        """Runs that a manager is to let go."""
        found = tables.run.c
        mine = found.manager == bindparam("holder", type_=Text())
        query = select(found.id).where(mine, found.offered.is_not(None), found.ended_ms.is_(None))
        return query.order_by(found.offered_ms, found.id).limit(bindparam("most", type_=Integer()))

    def _let_go(self) -> ForRows:
        """Offered runs that are still this manager's."""
        found = tables.run.c
        rows = rows_of(self.dialect, tables.run, ("id", "epoch"))
        owned = (found.id == rows.c.id, found.epoch == rows.c.epoch, found.manager == fenced().scalar_subquery())
        free = {"manager": None, "epoch": found.epoch + 1}
        gone = update(tables.run).where(*owned, found.offered.is_not(None)).values(free).returning(found.id)
        return ForRows(rows, gone)

    def _signals(self, *those: Any) -> ForRows:
        """What was told to a manager's runs but the given ones, or `those` of it, the oldest first."""
        found, run = tables.signal.c, tables.run.c
        but = rows_of(self.dialect, tables.run, ("id",))
        mine: Any = select(run.id, run.account, run.epoch, run.wake_ms).where(
            run.manager == bindparam("holder", type_=Text()), run.id.not_in(select(but.c.id))
        )
        if self.dialect == "postgresql":
            # OFFSET keeps the planner from joining the other way round: as long as it has no statistics, which it makes
            # once a minute, it takes the manager's runs for few, and compares thousands of them with thousands of
            # signals.
            of_signal: Any = mine.where(run.id == found.run).offset(0).lateral("mine")
            joined = tables.signal.join(of_signal, literal(value=True))
        else:
            of_signal = mine.subquery("mine")
            joined = tables.signal.join(of_signal, of_signal.c.id == found.run)
        told = select(tables.signal, of_signal.c.account, of_signal.c.epoch, of_signal.c.wake_ms).select_from(joined)
        told = told.where(*those).order_by(found.id)
        return ForRows(but, told.limit(bindparam("most", type_=Integer())))

    def _queued(self) -> ForRows:
        """Runs of a manager that nobody has begun, but the given ones, the oldest first."""
        run = tables.run.c
        but = rows_of(self.dialect, tables.run, ("id",))
        mine = select(run.id, run.account, run.epoch).where(
            run.manager == bindparam("holder", type_=Text()), tables.QUEUED
        )
        mine = mine.where(run.id.not_in(select(but.c.id)))
        return ForRows(but, mine.order_by(run.id).limit(bindparam("most", type_=Integer())))

    def _nodes_of(self) -> ForRows:
        rows = rows_of(self.dialect, tables.run, ("id",))
        return ForRows(rows, select(tables.node).where(tables.node.c.run.in_(select(rows.c.id))))


def _managers() -> Any:
    """How many there are, at least one."""
    found = tables.manager.c
    count = select(func.count()).where(found.state == ACTIVE).scalar_subquery()
    return case((count > 0, count), else_=1)


def _reserved(dialect: str) -> Any:
    """Whether the manager `holder` has a run for itself."""
    found, own = tables.manager.c, tables.run.alias("own")
    lasting = or_(found.reserved_until_ms.is_(None), found.reserved_until_ms > now_ms(dialect))
    return (
        select(found.id)
        .join(own, and_(own.c.id == found.reserved_run, own.c.manager == found.id, own.c.ended_ms.is_(None)))
        .where(found.id == bindparam("holder", type_=Text()), lasting)
        .exists()
    )


@lru_cache
def statements(dialect: str) -> Statements:
    """Those of a database; they hold nothing of a connection."""
    return Statements(dialect)
