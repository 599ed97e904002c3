"""What Alembic runs to migrate; the connection is given, its transaction is the caller's."""

from __future__ import annotations

from alembic import context

from gateway.adapters.sql.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
