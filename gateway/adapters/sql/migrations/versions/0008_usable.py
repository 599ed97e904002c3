"""Which programs may use the schema: a deploy that is rolled back starts older ones on a newer one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table with its row. Programs that know less than this revision do not look for it."""
    usable = op.create_table("usable", sa.Column("since", sa.String(32), nullable=False))
    op.bulk_insert(usable, [{"since": revision}])
