"""The store's own code on SQLite in memory, without threads: a statement is over when it was begun."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from gateway.adapters.sql.schema import HEAD
from gateway.adapters.sql.tables import metadata


class InlineConnection:
    """What the store uses of an AsyncConnection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.dialect = connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        return self._connection.execute(statement, parameters)

    async def run_sync(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(self._connection, *arguments)


class InlineEngine:
    """What the store uses of an AsyncEngine. Units never overlap: nothing in them waits."""

    def __init__(self) -> None:
        self.time_s: Callable[[], float] = time.time
        self._engine = create_engine("sqlite://", poolclass=StaticPool)

        @event.listens_for(self._engine, "connect")
        def connected(connection: Any, _: Any) -> None:
            connection.isolation_level = None
            # The database's clock, by which leases run out.
            connection.create_function("julianday", 1, lambda _: 2_440_587.5 + self.time_s() / 86_400)

        @event.listens_for(self._engine, "begin")
        def begun(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[InlineConnection]:
        with self._engine.begin() as connection:
            yield InlineConnection(connection)

    def make_tables(self) -> None:
        """What the migrations make, empty, without the time that they take."""
        metadata.drop_all(self._engine)
        metadata.create_all(self._engine)
        with self._engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
            connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{HEAD}')")

    async def dispose(self) -> None:
        """It is used again: what it has compiled takes longer than a simulation."""


ENGINE = InlineEngine()
