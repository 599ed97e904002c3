"""What jobs say of their attempts, and the key of their secrets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns, which older programs leave empty, and a table."""
    op.add_column("attempt", sa.Column("starter", sa.String(256)))
    op.add_column("attempt", sa.Column("told_ms", sa.BigInteger))
    op.create_table(
        "secret",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secret"),
    )
