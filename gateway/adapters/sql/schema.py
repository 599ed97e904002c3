"""Bringing the store's schema to this program's version. Alembic is loaded only when a migration is missing.

In a rolling deploy the first new process migrates, while old ones run on, and start again when the deploy is rolled
back. So a migration adds: tables, indices, columns that may be missing from a row. One that takes away or means
something else has to raise `usable.since`, and old processes have to end before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import SchemaError
from gateway.telemetry.log import Log

HEAD = "0009"
_MIGRATIONS = Path(__file__).parent / "migrations"
# Of all programs that migrate one database, one does. The number is any that nobody else uses.
_LOCK = 0x4845_4957_41
_log = Log("workflows")


async def migrate(engine: AsyncEngine, to: str = HEAD) -> bool:
    """Whether something was migrated. Raises SchemaError for a schema that this program does not know."""
    async with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        return await connection.run_sync(_migrate, to)


def found(connection: Connection) -> str | None:
    """The revision that the store has; None: it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def is_usable(connection: Connection) -> bool:
    """Whether this program may use a schema that is newer than its own."""
    if not inspect(connection).has_table("usable"):
        return False
    since: str | None = connection.execute(text("SELECT max(since) FROM usable")).scalar()
    return since is not None and since <= HEAD


def _migrate(connection: Connection, to: str) -> bool:
    revision = found(connection)
    if revision == to:
        return False
    if revision is not None and revision > HEAD:
        if is_usable(connection):
            _log.info("workflow_schema_newer", schema=revision, known=HEAD)
            return False
        raise SchemaError(f"the workflow store has schema {revision}, this version knows {HEAD}; use a newer version")
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)
    return True


def differences(connection: Connection) -> list[Any]:
    """How the store differs from the tables that this program declares; empty: not at all."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from gateway.adapters.sql.tables import metadata

    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))
