"""Deleting runs that have been over for long, with all that belongs to them."""

from __future__ import annotations

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import tables

_OF_A_RUN = (tables.event, tables.node, tables.attempt, tables.signal)


async def oldest_ended_ms(connection: AsyncConnection) -> int | None:
    """When the first of those that are over ended; None: there are none."""
    oldest = select(func.min(tables.run.c.ended_ms)).where(tables.OVER)
    found: int | None = (await connection.execute(oldest)).scalar()
    return found


async def delete_ended(connection: AsyncConnection, before_ms: int, limit: int) -> list[str] | None:
    """The public ids of the attempts of those that are deleted; None: there are no more."""
    ended = select(tables.run.c.id).where(tables.run.c.ended_ms < before_ms).order_by(tables.run.c.ended_ms)
    runs = list((await connection.execute(ended.limit(limit).with_for_update(skip_locked=True))).scalars())
    if not runs:
        return None
    tokens = select(tables.attempt.c.token).where(tables.attempt.c.run.in_(runs))
    found = list((await connection.execute(tokens)).scalars())
    for table in _OF_A_RUN:
        await connection.execute(delete(table).where(table.c.run.in_(runs)))
    await connection.execute(delete(tables.run).where(tables.run.c.id.in_(runs)))
    return found
