"""Engines for both databases, and their errors turned into ours."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from gateway.adapters.sqlite.file import BUSY_TIMEOUT_S
from gateway.errors import SettingsError, StoreError, UnstorableError

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 20.0
# The server ends a statement by itself; one that has not done so stands still, or the network swallows its packets, and
# nothing else would say so for a quarter of an hour.
SILENCE_S = STATEMENT_TIMEOUT_S + 2
IDLE_S = 30.0
# Classes of SQLSTATE: data exceptions, limits of the program. So the driver tells, too, what it refuses itself.
_UNSTORABLE = ("22", "54")
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql+asyncpg": "postgresql+asyncpg"}


def parse_url(text: str) -> URL:
    """Raises SettingsError for what is no address of a database that this program knows."""
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise SettingsError("workflows.store_url", "is no address of a database") from error
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        known = "sqlite:///PATH or postgresql+asyncpg://USER@HOST/DATABASE"
        raise SettingsError("workflows.store_url", f"{url.drivername}:// is not known; write {known}")
    if url.password is not None:
        problem = "holds a password, which settings show; give it by PGPASSWORD or a password file (PGPASSFILE)"
        raise SettingsError("workflows.store_url", problem)
    return url.set(drivername=driver)


def make_engine(url: URL, idle_s: float = IDLE_S) -> AsyncEngine:
    """Connects when it is first used. PostgreSQL ends a transaction in which nothing happens for `idle_s`: a process
    that was stopped in one must not hold up others for longer than its lease."""
    return _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url, idle_s)


def _postgresql(url: URL, idle_s: float) -> AsyncEngine:
    timeouts = {
        "statement_timeout": str(round(STATEMENT_TIMEOUT_S * 1000)),
        "idle_in_transaction_session_timeout": str(round(idle_s * 1000)),
    }
    engine = create_async_engine(
        url,
        pool_size=4,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": SILENCE_S,
            "server_settings": {"application_name": "heiwa", **timeouts},
        },
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        # A plan that was made while the tables were small is kept for ever, and reads them whole.
        cursor = connection.cursor()
        cursor.execute("SET plan_cache_mode = force_custom_plan")
        cursor.close()
        connection.commit()

    return engine


def _sqlite(url: URL) -> AsyncEngine:
    """One connection: one process holds the file, and its transactions follow each other anyway."""
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"timeout": BUSY_TIMEOUT_S},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        # The driver's own BEGIN is deferred: a read that becomes a write would be "locked" at once.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 10000", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextlib.contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn the driver's exceptions into StoreError or UnstorableError; a broken rule of the schema stays what it is."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, OSError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        silent = isinstance(cause, TimeoutError) and not str(cause)
        said = "it does not answer" if silent else str(cause).splitlines()[0] if str(cause) else repr(cause)
        kind = UnstorableError if _is_unstorable(error, cause) else StoreError
        raise kind(f"the workflow store ({what}): {said}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the workflow store ({what}): {error}") from error


def _is_unstorable(error: Exception, cause: BaseException) -> bool:
    return isinstance(error, DataError) or str(getattr(cause, "sqlstate", None) or "").startswith(_UNSTORABLE)
