"""Managers and their leases. The clock is the database's: those of its clients differ.

Who took over for a manager has raised its fence and given its runs to others, each under a new epoch. So a manager that
was only slow writes nothing any more, and hears of it with its next heartbeat.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import tables
from gateway.workflows.records import Lease, Sign

_MANAGER = tables.manager
ACTIVE, DEAD, GONE = "active", "dead", "gone"
# How long those that are gone are remembered.
OLD_MS = 7 * 86_400_000


def now_ms(dialect: str) -> ColumnElement[Any]:
    """The database's time. As a subquery: for a function of changing values PostgreSQL uses no index."""
    if dialect == "postgresql":
        clock: ColumnElement[Any] = cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)
    else:
        clock = cast((func.julianday("now") - literal_column("2440587.5")) * 86_400_000, BigInteger)
    return select(clock.label("now")).scalar_subquery()


def fenced() -> Select[tuple[str]]:
    """The manager `holder`, if `holder_fence` is its fence."""
    found = tables.manager.c
    return select(found.id).where(
        found.id == bindparam("holder", type_=Text()), found.fence == bindparam("holder_fence", type_=BigInteger())
    )


async def register(
    connection: AsyncConnection, manager: str, incarnation: str, lease_s: float, *, again: bool, lock_key: int | None
) -> Lease | None:
    """A new life under this name: its fence is above that of every earlier one, and the runs of those are its own.

    `again`: only if nobody else has had the name since; None: somebody has.
    """
    now = now_ms(connection.dialect.name)
    until = now + round(lease_s * 1000)
    begun = {
        "incarnation": incarnation,
        "state": ACTIVE,
        "lease_until_ms": until,
        "progress": 0,
        "heard_ms": now,
        "lock_key": lock_key,
        "hog_run": None,
        "reserved_run": None,
        "reserved_until_ms": None,
    }
    mine = [_MANAGER.c.incarnation == incarnation] if again else []
    renewed = (
        update(_MANAGER)
        .where(_MANAGER.c.id == manager, *mine)
        .values(fence=_MANAGER.c.fence + 1, **begun)
        .returning(_MANAGER.c.fence)
    )
    fence = (await connection.execute(renewed)).scalar()
    if fence is None and again:
        return None
    if fence is None:
        # Each life among several has a name of its own; a ghost that wakes up later finds that it has no row.
        late = now - OLD_MS
        await connection.execute(delete(_MANAGER).where(_MANAGER.c.state != ACTIVE, _MANAGER.c.lease_until_ms < late))
        fence = 1
        await connection.execute(insert(_MANAGER).values(id=manager, fence=fence, since_ms=now, **begun))
    await connection.execute(live_runs_of(manager).values(epoch=tables.run.c.epoch + 1, offered=None))
    return Lease(manager, incarnation, fence)


async def heartbeat(connection: AsyncConnection, lease: Lease, lease_s: float, sign: Sign) -> bool:
    """Prolong a lease. False: somebody has taken over."""
    now = now_ms(connection.dialect.name)
    said = {"progress": sign.progress, "lock_key": sign.lock_key, "hog_run": sign.hog_run}
    beat = (
        update(_MANAGER).where(*_held(lease)).values(lease_until_ms=now + round(lease_s * 1000), heard_ms=now, **said)
    )
    return (await connection.execute(beat.returning(_MANAGER.c.id))).first() is not None


async def retire(connection: AsyncConnection, lease: Lease) -> None:
    """Its runs are nobody's from now on. Nothing where somebody has taken over already."""
    held = await connection.execute(select(_MANAGER.c.id).where(*_held(lease)).with_for_update())
    if held.first() is not None:
        fenced = update(_MANAGER).where(_MANAGER.c.id == lease.manager)
        await connection.execute(fenced.values(fence=_MANAGER.c.fence + 1, state=GONE))
        free = {"manager": None, "offered": None, "epoch": tables.run.c.epoch + 1}
        await connection.execute(live_runs_of(lease.manager).values(**free))


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return _MANAGER.c.id == lease.manager, _MANAGER.c.fence == lease.fence, _MANAGER.c.state == ACTIVE


def live_runs_of(name: str) -> Any:
    """An update of the runs of a manager that are not over."""
    return update(tables.run).where(tables.run.c.manager == name, tables.run.c.ended_ms.is_(None))
