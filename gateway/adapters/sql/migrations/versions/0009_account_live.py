"""The live runs of an account are counted by an index: there is a limit to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_LIVE = sa.text("ended_ms IS NULL")


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_run_account_live", "run", ["account"], sqlite_where=_LIVE, postgresql_where=_LIVE)
