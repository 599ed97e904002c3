"""Which schedules there are, and when each is due next."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import managers, tables
from gateway.workflows.records import DueSchedule

_TABLE = tables.schedule


async def put_schedule(connection: AsyncConnection, account: str, name: str, now_ms: int, next_ms: int | None) -> None:
    """The newest version of a definition has a schedule that is due at `next_ms`; None: it has none."""
    await connection.execute(delete(_TABLE).where(_TABLE.c.account == account, _TABLE.c.name == name))
    if next_ms is not None:
        values = {"account": account, "name": name, "done_ms": now_ms, "next_ms": next_ms}
        await connection.execute(insert(_TABLE).values(**values))


async def due_schedules(connection: AsyncConnection, now_ms: int, limit: int) -> list[DueSchedule]:
    """Those whose time has come, the earliest first. With PostgreSQL by its clock, too."""
    if connection.dialect.name == "postgresql":
        store_ms: int = (await connection.execute(select(managers.now_ms("postgresql")))).scalar_one()
        now_ms = min(now_ms, store_ms)
    query = select(_TABLE).where(_TABLE.c.next_ms <= now_ms).order_by(_TABLE.c.next_ms).limit(limit)
    return [DueSchedule(row.account, row.name, row.done_ms, now_ms) for row in await connection.execute(query)]


async def move_schedule(connection: AsyncConnection, due: DueSchedule, done_ms: int, next_ms: int | None) -> None:
    """Unless it was put anew, or somebody else has moved it."""
    found = _TABLE.c
    same = (found.account == due.account, found.name == due.name, found.done_ms == due.done_ms)
    await connection.execute(update(_TABLE).where(*same).values(done_ms=done_ms, next_ms=next_ms))
