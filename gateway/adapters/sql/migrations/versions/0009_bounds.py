"""The live runs of an account are counted by an index, for there is a limit to them; and orders are found among
thousands of other signals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_LIVE = sa.text("ended_ms IS NULL")
_ORDER = sa.text("kind IN ('cancel', 'resume')")


def upgrade() -> None:
    """Make the indices."""
    op.create_index("ix_run_account_live", "run", ["account"], sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index("ix_signal_order", "signal", ["id"], sqlite_where=_ORDER, postgresql_where=_ORDER)
