"""Runs by when they ended, for their deletion."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OVER = sa.text("ended_ms IS NOT NULL")


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_run_ended", "run", ["ended_ms"], sqlite_where=_OVER, postgresql_where=_OVER)
