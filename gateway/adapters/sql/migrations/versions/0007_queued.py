"""Runs that nobody has begun are found by an index, not by a signal each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_QUEUED = sa.text("status = 'queued'")


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_run_queued", "run", ["manager"], sqlite_where=_QUEUED, postgresql_where=_QUEUED)
