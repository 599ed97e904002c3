"""The list of an account's runs, for those who watch it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "account_log",
        sa.Column("account", sa.String(128), nullable=False),
        sa.Column("newest", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_account_log"),
    )
    op.create_table(
        "line",
        sa.Column("account", sa.String(128), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account", "number", name="pk_line"),
    )
    op.create_index("ix_line_time_ms", "line", ["time_ms"])
