"""The Presence port on PostgreSQL: a session lock on a connection of its own, which goes when the process dies.

The server frees the lock as soon as it notices the end of the connection: at once after a `kill -9`. The same
connection hears hints that something was stored. Whoever cannot be sure of its lock says so by `may_act`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.engine import URL

from gateway.adapters.sql.balancing import LOCK_CLASS
from gateway.adapters.sql.notices import CHANNEL
from gateway.telemetry.log import Log

LOOK_S = 1.0
# A server that does not answer for so long is away.
PATIENCE_S = 2.0
CONNECT_S = 5.0
# Arguments of SQLAlchemy's, not of the driver's.
_NOT_ITS_OWN = ("prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback", "async_creator_fn")
_log = Log("workflows")


class SessionLock:
    """`key` is one that no other process has had. `heard` is called for each hint. `start`, then `run`."""

    def __init__(self, url: URL, key: int, heard: Callable[[], None]) -> None:
        self._key = key
        self._heard = heard
        driver: Any = dialect.PGDialect_asyncpg
        _, arguments = driver().create_connect_args(url)
        self._arguments = {name: value for name, value in arguments.items() if name not in _NOT_ITS_OWN}
        self._connection: Any = None
        self._pooled = False

    @property
    def lock_key(self) -> int | None:
        """None while it is not held, and where a pooler stands between: there nobody can hold one."""
        return self._key if self._connection is not None and not self._pooled else None

    @property
    def may_act(self) -> bool:
        """False while others may take this process for dead."""
        return self._connection is not None or self._pooled

    async def start(self) -> None:
        """Take the lock, if the server can be reached."""
        await self._look()

    async def run(self) -> None:
        """Look after it, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        try:
            if self._connection is None:
                await self._take()
            else:
                async with asyncio.timeout(PATIENCE_S):
                    await self._connection.execute("SELECT 1")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if self._connection is not None or not isinstance(error, OSError):
                _log.warning("workflow_lock_lost", message=str(error) or type(error).__name__)
            self._lose()

    async def _take(self) -> None:
        if self._pooled:
            return
        connection = await asyncpg.connect(**self._arguments, timeout=CONNECT_S)
        try:
            async with asyncio.timeout(PATIENCE_S):
                if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
                    _log.warning("workflow_lock_off", message="a pooler stands between this process and the server")
                    self._pooled = True
                    return
                if not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, self._key):
                    # The server has not noticed the end of our last connection.
                    return
                await connection.add_listener(CHANNEL, lambda *_: self._heard())
            connection.add_termination_listener(lambda _: self._lose())
            self._connection, connection = connection, None
        finally:
            if connection is not None:
                await _end(connection)

    async def close(self) -> None:
        """Let go of it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await _end(connection)

    def _lose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.terminate()


async def _end(connection: Any) -> None:
    """As the server likes it, or else."""
    try:
        await connection.close(timeout=PATIENCE_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
