"""What a rebalancer sees and orders, each set of orders in one transaction under its lease."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Text, and_, bindparam, func, null, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import tables
from gateway.adapters.sql.given_rows import TEXT, WHOLE, GivenRows
from gateway.adapters.sql.managers import ACTIVE, DEAD, live_runs_of, now_ms
from gateway.adapters.sql.notices import notify
from gateway.workflows.fleet import Dead, FleetSeen, Lead, Leader, ManagerSeen, Move, Orders, Reserve, Share

# Of all advisory locks of a database, those of our processes. The number is any that nobody else uses.
LOCK_CLASS = 0x4845_4957
_NAME = "rebalancer"
_PATIENCE = text("SET LOCAL lock_timeout = '3s'")
_MANAGER, _RUN, _LEASE = tables.manager.c, tables.run.c, tables.lease.c


async def fleet(connection: AsyncConnection, *, counted: bool) -> FleetSeen:
    """One look."""
    dialect = connection.dialect.name
    held, server = await _server(connection)
    rows = (await connection.execute(_managers(dialect))).all()
    counts = await _counts(connection) if counted else _Counts()
    names = {row.id for row in rows}
    found = [
        ManagerSeen(
            row.id,
            row.fence,
            row.left_ms / 1000,
            row.heard_ago_ms / 1000,
            row.lock_key,
            row.hog_run,
            row.run_hogs or 0,
            row.reserved,
            counts.runs.get(row.id, 0),
            counts.leaving.get(row.id, (0, 0.0))[0],
            counts.leaving.get(row.id, (0, 0.0))[1],
        )
        for row in rows
    ]
    behind = sum(count for name, count in counts.holders.items() if name not in names)
    return FleetSeen(tuple(found), await _leader(connection), held, server, behind)


@lru_cache
def _managers(dialect: str) -> Any:
    now = now_ms(dialect)
    hog, own = tables.run.alias("hog"), tables.run.alias("own")
    kept = and_(
        own.c.id == _MANAGER.reserved_run,
        own.c.manager == _MANAGER.id,
        own.c.ended_ms.is_(None),
        or_(_MANAGER.reserved_until_ms.is_(None), _MANAGER.reserved_until_ms > now),
    )
    return (
        select(
            _MANAGER.id,
            _MANAGER.fence,
            (_MANAGER.lease_until_ms - now).label("left_ms"),
            (now - func.coalesce(_MANAGER.heard_ms, now)).label("heard_ago_ms"),
            _MANAGER.lock_key,
            hog.c.id.label("hog_run"),
            hog.c.hogs.label("run_hogs"),
            own.c.id.label("reserved"),
        )
        .select_from(tables.manager)
        .outerjoin(hog, and_(hog.c.id == _MANAGER.hog_run, hog.c.manager == _MANAGER.id, hog.c.ended_ms.is_(None)))
        .outerjoin(own, kept)
        .where(_MANAGER.state == ACTIVE)
        .order_by(_MANAGER.id)
    )


class _Counts:
    """Runs by who has them, by who has or is to have them, and by whose they are although they are to leave."""

    def __init__(self) -> None:
        self.holders: dict[str, int] = {}
        self.runs: dict[str, int] = {}
        self.leaving: dict[str, tuple[int, float]] = {}


@lru_cache
def _counting(dialect: str) -> Any:
    age = (now_ms(dialect) - func.min(_RUN.offered_ms)).label("age_ms")
    query = select(_RUN.manager, _RUN.offered, func.count().label("runs"), age).where(_RUN.ended_ms.is_(None))
    return query.group_by(_RUN.manager, _RUN.offered)


async def _counts(connection: AsyncConnection) -> _Counts:
    found = _Counts()
    for row in await connection.execute(_counting(connection.dialect.name)):
        if row.manager is not None:
            found.holders[row.manager] = found.holders.get(row.manager, 0) + row.runs
        last = row.offered or row.manager
        if last is not None:
            found.runs[last] = found.runs.get(last, 0) + row.runs
        if row.manager is not None and row.offered is not None:
            runs, age_s = found.leaving.get(row.manager, (0, 0.0))
            found.leaving[row.manager] = runs + row.runs, max(age_s, (row.age_ms or 0) / 1000)
    return found


@lru_cache
def _leading(dialect: str) -> Any:
    left = (_LEASE.until_ms - now_ms(dialect)).label("left_ms")
    return select(_LEASE.holder, _LEASE.epoch, left, _LEASE.lock_key).where(_LEASE.name == _NAME)


async def _leader(connection: AsyncConnection) -> Leader | None:
    row = (await connection.execute(_leading(connection.dialect.name))).first()
    return None if row is None else Leader(row.holder, row.epoch, row.left_ms / 1000, row.lock_key)


async def _server(connection: AsyncConnection) -> tuple[frozenset[int] | None, str]:
    """The session locks of our processes, and when the server was started."""
    if connection.dialect.name != "postgresql":
        return None, ""
    found = await connection.execute(
        text(
            "SELECT objid, pg_postmaster_start_time() AS started FROM pg_locks WHERE locktype = 'advisory' "
            "AND classid = :class AND granted AND database = (SELECT oid FROM pg_database "
            "WHERE datname = current_database()) UNION ALL SELECT NULL, pg_postmaster_start_time()"
        ),
        {"class": LOCK_CLASS},
    )
    rows = found.all()
    return frozenset(int(row.objid) for row in rows if row.objid is not None), str(rows[-1].started)


async def lead(
    connection: AsyncConnection, holder: str, lease_s: float, lock_key: int | None, gone: int | None
) -> Lead | None:
    """Take or prolong the lease. None: another one has it."""
    asked = {"who": holder, "lease_ms": round(lease_s * 1000), "its_lock": lock_key}
    prolonged, taken, made = _taking(connection.dialect.name)
    for statement, more in ((prolonged, {}), (taken, {"gone": gone}), (made, {})):
        row = (await connection.execute(statement, {**asked, **more})).first()
        if row is not None:
            return Lead(holder, row.epoch)
    return None


@lru_cache
def _taking(dialect: str) -> tuple[Any, ...]:
    """Prolong one's own lease; take one that has run out, or whose holder is gone; or make the first."""
    now, holder = now_ms(dialect), bindparam("who", type_=Text())
    values: dict[str, Any] = {
        "until_ms": now + bindparam("lease_ms", type_=BigInteger()),
        "lock_key": bindparam("its_lock", type_=BigInteger()),
    }
    ours = update(tables.lease).where(_LEASE.name == _NAME)
    prolonged = ours.where(_LEASE.holder == holder).values(**values)
    free = or_(_LEASE.until_ms < now, _LEASE.epoch == bindparam("gone", type_=BigInteger()))
    taken = ours.where(free).values(**values, holder=holder, epoch=_LEASE.epoch + 1)
    made = postgresql.insert(tables.lease) if dialect == "postgresql" else sqlite.insert(tables.lease)
    first = made.values(**values, name=_NAME, holder=holder, epoch=1).on_conflict_do_nothing()
    return tuple(statement.returning(_LEASE.epoch) for statement in (prolonged, taken, first))


async def yield_lead(connection: AsyncConnection, lead: Lead) -> None:
    """It has run out."""
    await connection.execute(update(tables.lease).where(*_led(lead)).values(until_ms=0, lock_key=None))


def _led(lead: Lead) -> tuple[Any, ...]:
    return _LEASE.name == _NAME, _LEASE.holder == lead.holder, _LEASE.epoch == lead.epoch


async def obey(connection: AsyncConnection, lead: Lead, orders: Orders) -> bool:
    """Carry out all of them. False: somebody else leads."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_PATIENCE)
    # Whoever takes the lease over waits for the end of this transaction.
    held = await connection.execute(select(_LEASE.epoch).where(*_led(lead)).with_for_update())
    if held.first() is None:
        return False
    now = now_ms(connection.dialect.name)
    for dead in orders.dead:
        await _take_over(connection, dead, now)
    older = now - round(orders.older_s * 1000)
    for name in orders.forced:
        await _force(connection, name, older)
    for name in orders.withdrawn:
        late = live_runs_of(name).where(_RUN.offered.is_not(None), _RUN.offered_ms < older)
        await connection.execute(late.values(offered=None))
    for reserve in orders.reserved:
        await _reserve(connection, reserve, now)
    if orders.freed:
        freed = update(tables.manager).where(_MANAGER.id.in_(orders.freed))
        await connection.execute(freed.values(reserved_run=None, reserved_until_ms=None))
    for move in orders.moves:
        await _move(connection, move, now)
    if orders.sweep:
        await _sweep(connection)
    await notify(connection)
    return True


async def _take_over(connection: AsyncConnection, dead: Dead, now: Any) -> None:
    """Nothing of a manager that has given a sign of life since it was seen, unless its process is known to be dead."""
    late = [] if dead.hinted else [_MANAGER.lease_until_ms < now]
    same = [_MANAGER.id == dead.manager, _MANAGER.fence == dead.fence, _MANAGER.state == ACTIVE, *late]
    # One that was stopped in a transaction holds its row until the server ends that; others do not wait for it.
    asked = select(_MANAGER.lease_until_ms).where(*same).with_for_update(skip_locked=True)
    until_ms = (await connection.execute(asked)).scalar()
    if until_ms is None:
        return
    fenced = update(tables.manager).where(_MANAGER.id == dead.manager)
    await connection.execute(fenced.values(fence=_MANAGER.fence + 1, state=DEAD))
    hold = until_ms if dead.hinted else None
    free = {"manager": None, "epoch": _RUN.epoch + 1, "hold_until_ms": hold, "offered": None}
    # What was offered to it is for anyone, or goes to the next.
    lost = update(tables.run).where(_RUN.manager.is_(None), _RUN.offered == dead.manager, _RUN.ended_ms.is_(None))
    await connection.execute(lost.values(offered=None))
    kept = update(tables.run).where(_RUN.manager.is_not(None), _RUN.offered == dead.manager, _RUN.ended_ms.is_(None))
    await connection.execute(kept.values(offered=None))
    if dead.shares:
        ranked = _ranked(dead.manager, None)
        await _offer(connection, ranked, dead.shares, {**free, "offered_ms": now})
    await connection.execute(live_runs_of(dead.manager).values(**free))


def _ranked(manager: str, keep: str | None) -> Any:
    """The runs of a manager that are not offered, numbered; those that wait for a time first, for they are idle."""
    found = tables.run.alias("found")
    idle = found.c.wake_ms.is_(None)
    number = func.row_number().over(order_by=[idle, func.coalesce(found.c.offered_ms, 0), found.c.id])
    mine = [found.c.manager == manager, found.c.ended_ms.is_(None), found.c.offered.is_(None)]
    if keep is not None:
        mine.append(found.c.id != keep)
    return select(found.c.id, number.label("number")).where(*mine).subquery("ranked")


async def _offer(connection: AsyncConnection, ranked: Any, shares: tuple[Share, ...], values: dict[str, Any]) -> None:
    """Offer the first of them to the first share, and so on."""
    rows, above = [], 0
    for share in shares:
        rows.append((share.manager, above, above + share.runs))
        above += share.runs
    given = GivenRows(connection.dialect.name, {"manager": TEXT, "above": WHOLE, "last": WHOLE})
    offered = (
        update(tables.run)
        .where(
            _RUN.id == ranked.c.id,
            ranked.c.number > given.c.above,
            ranked.c.number <= given.c.last,
        )
        .values({**values, "offered": given.c.manager})
    )
    await connection.execute(offered, given.of(rows))


async def _force(connection: AsyncConnection, name: str, older: Any) -> None:
    """Take from a manager what it should have let go. It may still be about to begin something."""
    lease = select(_MANAGER.lease_until_ms).where(_MANAGER.id == name).scalar_subquery()
    late = live_runs_of(name).where(_RUN.offered.is_not(None), _RUN.offered_ms < older)
    await connection.execute(late.values(manager=None, epoch=_RUN.epoch + 1, hold_until_ms=lease))


async def _move(connection: AsyncConnection, move: Move, now: Any) -> None:
    await _offer(connection, _ranked(move.manager, move.keep), move.shares, {"offered_ms": now})


async def _reserve(connection: AsyncConnection, reserve: Reserve, now: Any) -> None:
    until = null() if reserve.for_s is None else now + round(reserve.for_s * 1000)
    mine = update(tables.manager).where(_MANAGER.id == reserve.manager, _MANAGER.fence == reserve.fence)
    await connection.execute(mine.values(reserved_run=reserve.run, reserved_until_ms=until))
    hog = update(tables.run).where(_RUN.id == reserve.run)
    await connection.execute(hog.values(hogs=func.coalesce(_RUN.hogs, 0) + 1))


async def _sweep(connection: AsyncConnection) -> None:
    """Runs that were given to a manager when it was dead already: who gave them did not know."""
    active = select(_MANAGER.id).where(_MANAGER.state == ACTIVE)
    left = update(tables.run).where(_RUN.ended_ms.is_(None), _RUN.manager.is_not(None), _RUN.manager.not_in(active))
    await connection.execute(left.values(manager=None, offered=None, epoch=_RUN.epoch + 1))
