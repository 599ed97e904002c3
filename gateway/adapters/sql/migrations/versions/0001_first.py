"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LIVE = sa.text("ended_ms IS NULL")


def _text(name: str, length: int, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _whole(name: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _small(name: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _long(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "definition",
        _text("account", 128),
        _text("name", 64),
        _small("version"),
        _long("spec"),
        _text("sha256", 64),
        _whole("created_ms"),
        sa.PrimaryKeyConstraint("account", "name", "version", name="pk_definition"),
    )
    op.create_table(
        "run",
        _text("id", 36),
        _text("account", 128),
        _text("definition", 64),
        _small("version"),
        _text("engine", 16),
        _text("status", 16),
        _whole("revision"),
        _text("manager", 64, nullable=True),
        _whole("epoch"),
        _whole("wake_ms", nullable=True),
        _text("key", 255, nullable=True),
        _text("parent_run", 36, nullable=True),
        _text("parent_path", 64, nullable=True),
        _small("parent_iteration", nullable=True),
        _small("parent_attempt", nullable=True),
        _small("depth"),
        _long("input"),
        _long("output", nullable=True),
        _long("error", nullable=True),
        _whole("created_ms"),
        _whole("started_ms", nullable=True),
        _whole("deadline_ms", nullable=True),
        _whole("ended_ms", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.UniqueConstraint("account", "key", name="uq_run_account_key"),
    )
    op.create_index("ix_run_manager_live", "run", ["manager"], sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index("ix_run_account_id", "run", ["account", "id"])
    op.create_table(
        "node",
        _text("run", 36),
        _text("path", 64),
        _small("iteration"),
        _text("status", 16),
        _long("body"),
        sa.PrimaryKeyConstraint("run", "path", "iteration", name="pk_node"),
    )
    op.create_table(
        "attempt",
        _text("run", 36),
        _text("path", 64),
        _small("iteration"),
        _small("attempt"),
        _text("token", 32),
        _text("status", 16),
        _long("external", nullable=True),
        _long("error", nullable=True),
        _whole("epoch"),
        _whole("created_ms"),
        _whole("changed_ms"),
        sa.PrimaryKeyConstraint("run", "path", "iteration", "attempt", name="pk_attempt"),
        sa.UniqueConstraint("token", name="uq_attempt_token"),
    )
    op.create_table(
        "event",
        _text("run", 36),
        _whole("revision"),
        _whole("time_ms"),
        _text("kind", 32),
        _long("body"),
        sa.PrimaryKeyConstraint("run", "revision", name="pk_event"),
    )
    op.create_table(
        "signal",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        _text("run", 36),
        _text("kind", 16),
        _long("body"),
        _whole("created_ms"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_signal_run", "signal", ["run"])
    op.create_table(
        "manager",
        _text("id", 64),
        _text("incarnation", 36),
        _whole("fence"),
        _text("state", 16),
        _whole("lease_until_ms"),
        _whole("progress"),
        _whole("since_ms"),
        sa.PrimaryKeyConstraint("id", name="pk_manager"),
    )
