"""Managers and their leases. The clock is the database's: those of its clients differ.

Who took over for a manager has raised its fence and given its runs to nobody, each under a new epoch; whoever is alive
claims them. So a manager that was only slow writes nothing any more, and hears of it with its next heartbeat.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, cast, func, insert, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import tables
from gateway.workflows.records import Lease

_MANAGER = tables.manager
ACTIVE, DEAD, GONE = "active", "dead", "gone"


def now_ms(dialect: str) -> ColumnElement[Any]:
    """The database's time. As a subquery: for a function of changing values PostgreSQL uses no index."""
    if dialect == "postgresql":
        clock: ColumnElement[Any] = cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)
    else:
        clock = cast((func.julianday("now") - literal_column("2440587.5")) * 86_400_000, BigInteger)
    return select(clock.label("now")).scalar_subquery()


async def register(
    connection: AsyncConnection, manager: str, incarnation: str, lease_s: float, *, again: bool
) -> Lease | None:
    """A new life under this name: its fence is above that of every earlier one, and the runs of those are its own.

    `again`: only if nobody else has had the name since; None: somebody has.
    """
    until = now_ms(connection.dialect.name) + round(lease_s * 1000)
    mine = [_MANAGER.c.incarnation == incarnation] if again else []
    renewed = (
        update(_MANAGER)
        .where(_MANAGER.c.id == manager, *mine)
        .values(incarnation=incarnation, fence=_MANAGER.c.fence + 1, state=ACTIVE, lease_until_ms=until, progress=0)
        .returning(_MANAGER.c.fence)
    )
    fence = (await connection.execute(renewed)).scalar()
    if fence is None and again:
        return None
    if fence is None:
        fence = 1
        values = {"id": manager, "incarnation": incarnation, "fence": fence, "state": ACTIVE, "progress": 0}
        await connection.execute(insert(_MANAGER).values(**values, lease_until_ms=until, since_ms=until))
    await connection.execute(_live_runs_of(manager).values(epoch=tables.run.c.epoch + 1))
    return Lease(manager, incarnation, fence)


async def heartbeat(connection: AsyncConnection, lease: Lease, lease_s: float, progress: int) -> bool:
    """Prolong a lease. False: somebody has taken over."""
    until = now_ms(connection.dialect.name) + round(lease_s * 1000)
    beat = update(_MANAGER).where(*_held(lease)).values(lease_until_ms=until, progress=progress)
    return (await connection.execute(beat.returning(_MANAGER.c.id))).first() is not None


async def release_dead(connection: AsyncConnection, lease: Lease) -> list[str]:
    """Take over for those whose leases have run out: their runs are nobody's. The names of the dead."""
    late = _MANAGER.c.lease_until_ms < now_ms(connection.dialect.name)
    query = select(_MANAGER.c.id).where(_MANAGER.c.state == ACTIVE, late, _MANAGER.c.id != lease.manager)
    dead = list((await connection.execute(query.with_for_update(skip_locked=True))).scalars())
    for name in dead:
        await _release(connection, name, DEAD)
    await connection.execute(_left_behind().values(manager=None, epoch=tables.run.c.epoch + 1))
    return dead


async def retire(connection: AsyncConnection, lease: Lease) -> None:
    """Its runs are nobody's from now on. Nothing where somebody has taken over already."""
    held = await connection.execute(select(_MANAGER.c.id).where(*_held(lease)).with_for_update())
    if held.first() is not None:
        await _release(connection, lease.manager, GONE)


async def _release(connection: AsyncConnection, name: str, state: str) -> None:
    fenced = update(_MANAGER).where(_MANAGER.c.id == name).values(fence=_MANAGER.c.fence + 1, state=state)
    await connection.execute(fenced)
    await connection.execute(_live_runs_of(name).values(manager=None, epoch=tables.run.c.epoch + 1))


def _left_behind() -> Any:
    """Runs that were given to a manager when it was dead already: who gave them did not know."""
    active = select(_MANAGER.c.id).where(_MANAGER.c.state == ACTIVE)
    found = tables.run.c
    return update(tables.run).where(found.ended_ms.is_(None), found.manager.is_not(None), found.manager.not_in(active))


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return _MANAGER.c.id == lease.manager, _MANAGER.c.fence == lease.fence, _MANAGER.c.state == ACTIVE


def _live_runs_of(name: str) -> Any:
    return update(tables.run).where(tables.run.c.manager == name, tables.run.c.ended_ms.is_(None))
