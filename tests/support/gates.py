"""Gates in a real PostgreSQL: a transaction of the program stops at a boundary until a test lets it go on, or ends it.

A trigger waits for a lock that the test holds. So what was stored before is stored, and what is about to be is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import asyncpg

KEY = 77
# Each: the table, when its trigger fires, and the condition.
BOUNDARIES = {
    "the run is being begun": ("run", "UPDATE", "OLD.revision = 0 AND NEW.revision > 0"),
    "the intent is being stored": ("attempt", "INSERT", "NEW.attempt = 1"),
    "where it will be found is being stored": ("attempt", "UPDATE", "NEW.status = 'submitted'"),
    "its end is being stored": ("attempt", "UPDATE", "NEW.status = 'ok'"),
    "its failure and the wait are being stored": ("attempt", "UPDATE", "NEW.status = 'failed'"),
    "the next attempt is being stored": ("attempt", "INSERT", "NEW.attempt = 2"),
    "the run's end is being stored": ("run", "UPDATE", "OLD.ended_ms IS NULL AND NEW.ended_ms IS NOT NULL"),
}
# `make soak` has them all.
SAMPLE = ("the intent is being stored", "its end is being stored", "the next attempt is being stored")
TAKING_OVER = ("manager", "UPDATE", "NEW.state = 'dead'")
CREATING = ("run", "INSERT", "NEW.status = 'queued'")
_TABLES = ("run", "attempt", "manager")


class Gates:
    """`close` one, and wait until somebody stands before it; `open` lets it go on. One is there at a time."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+asyncpg", "postgresql")
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def close(self, table: str, event: str, condition: str) -> None:
        self._do(self._close(table, event, condition))

    async def _close(self, table: str, event: str, condition: str) -> None:
        self._connection = await asyncpg.connect(self._url)
        # Nobody is to stand before one of an earlier test.
        for other in _TABLES:
            await self._connection.execute(f"DROP TRIGGER IF EXISTS gate ON {other}")
        await self._connection.execute(
            f"""
            CREATE OR REPLACE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock({KEY}); RETURN NEW; END $$;
            SELECT pg_advisory_lock({KEY});
            CREATE TRIGGER gate AFTER {event} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION gate();
            """
        )

    def stands(self) -> bool:
        """Whether somebody stands before it."""
        query = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {KEY} AND NOT granted"
        return bool(self._do(self._connection.fetchval(query)))

    def open(self) -> None:
        """The trigger stays, and holds nobody up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._do(_closed(connection))

    def end(self) -> None:
        self.open()
        self._loop.close()


async def _closed(connection: Any) -> None:
    try:
        await connection.close(timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        # The server is gone.
        connection.terminate()
        await asyncio.sleep(0.01)
