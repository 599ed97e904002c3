"""The rebalancer's lease, what managers say of themselves, and runs that are to be let go."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OFFERED = sa.text("offered IS NOT NULL AND ended_ms IS NULL")
_RUN: dict[str, Any] = {
    "offered": sa.String(64),
    "offered_ms": sa.BigInteger(),
    "hold_until_ms": sa.BigInteger(),
    "hogs": sa.BigInteger(),
}
_MANAGER: dict[str, Any] = {
    "heard_ms": sa.BigInteger(),
    "lock_key": sa.BigInteger(),
    "hog_run": sa.String(36),
    "reserved_run": sa.String(36),
    "reserved_until_ms": sa.BigInteger(),
}


def upgrade() -> None:
    """Add columns that may be empty, so that an earlier version goes on meanwhile."""
    for table, columns in (("run", _RUN), ("manager", _MANAGER)):
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True))
    op.create_index("ix_run_offered", "run", ["offered"], sqlite_where=_OFFERED, postgresql_where=_OFFERED)
    op.create_table(
        "lease",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("lock_key", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_lease"),
    )
