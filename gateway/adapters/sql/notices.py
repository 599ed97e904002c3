"""Hints that something was stored that a manager may want to look at. Who hears none looks once a second."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

CHANNEL = "heiwa_workflows"
_NOTIFY = text(f"NOTIFY {CHANNEL}")


async def notify(connection: AsyncConnection) -> None:
    """Once a transaction, when it commits. On SQLite nobody else could hear it."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_NOTIFY)
