"""The tables of the workflow store. A change here needs a migration; a test compares both.

JSON is kept as text: what a job returns is given back as it was, whatever a database thinks of large numbers.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(column_0_N_label)s",
    }
)

definition = Table(
    "definition",
    metadata,
    Column("account", String(128), nullable=False),
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("account", "name", "version"),
)

schedule = Table(
    "schedule",
    metadata,
    Column("account", String(128), nullable=False),
    Column("name", String(64), nullable=False),
    Column("done_ms", BigInteger, nullable=False),
    Column("next_ms", BigInteger),
    PrimaryKeyConstraint("account", "name"),
    Index("ix_schedule_next_ms", "next_ms"),
)

run = Table(
    "run",
    metadata,
    Column("id", String(36), nullable=False),
    Column("account", String(128), nullable=False),
    Column("definition", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("engine", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("manager", String(64)),
    Column("epoch", BigInteger, nullable=False),
    Column("wake_ms", BigInteger),
    Column("key", String(255)),
    Column("parent_run", String(36)),
    Column("parent_path", String(64)),
    Column("parent_iteration", Integer),
    Column("parent_attempt", Integer),
    Column("depth", Integer, nullable=False),
    Column("input", Text, nullable=False),
    Column("output", Text),
    Column("error", Text),
    Column("created_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("deadline_ms", BigInteger),
    Column("ended_ms", BigInteger),
    # For whom it is to be let go, since when; and, by the store's clock, until when another may still begin its jobs.
    Column("offered", String(64)),
    Column("offered_ms", BigInteger),
    Column("hold_until_ms", BigInteger),
    # How often it took too much of its manager's time.
    Column("hogs", BigInteger),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("account", "key"),
)
LIVE = text("ended_ms IS NULL")
Index("ix_run_account_live", run.c.account, sqlite_where=LIVE, postgresql_where=LIVE)
OFFERED = text("offered IS NOT NULL AND ended_ms IS NULL")
Index("ix_run_offered", run.c.offered, sqlite_where=OFFERED, postgresql_where=OFFERED)
Index("ix_run_manager_live", run.c.manager, sqlite_where=LIVE, postgresql_where=LIVE)
QUEUED = text("status = 'queued'")
Index("ix_run_queued", run.c.manager, sqlite_where=QUEUED, postgresql_where=QUEUED)
OVER = text("ended_ms IS NOT NULL")
Index("ix_run_ended", run.c.ended_ms, sqlite_where=OVER, postgresql_where=OVER)
Index("ix_run_account_id", run.c.account, run.c.id)

node = Table(
    "node",
    metadata,
    Column("run", String(36), nullable=False),
    Column("path", String(64), nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("run", "path", "iteration"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("run", String(36), nullable=False),
    Column("path", String(64), nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("token", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("external", Text),
    Column("error", Text),
    Column("epoch", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    # What jobs say by themselves: which of them began it, and when one said how it ended.
    Column("starter", String(256)),
    Column("told_ms", BigInteger),
    PrimaryKeyConstraint("run", "path", "iteration", "attempt"),
    UniqueConstraint("token"),
)

event = Table(
    "event",
    metadata,
    Column("run", String(36), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("run", "revision"),
)

signal = Table(
    "signal",
    metadata,
    # On SQLite only INTEGER PRIMARY KEY counts by itself.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("run", String(36), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("ix_signal_run", "run"),
    # A number is never given twice: who deletes a signal that it has heard must not hit a later one.
    sqlite_autoincrement=True,
)

ORDER = text("kind IN ('cancel', 'resume')")
Index("ix_signal_order", signal.c.id, sqlite_where=ORDER, postgresql_where=ORDER)

manager = Table(
    "manager",
    metadata,
    Column("id", String(64), nullable=False),
    Column("incarnation", String(36), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),
    Column("progress", BigInteger, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("heard_ms", BigInteger),
    # The session lock that its process holds; NULL: none, so that nothing follows from its absence.
    Column("lock_key", BigInteger),
    # The run that took too much of its time of late.
    Column("hog_run", String(36)),
    # The run that it is to have for itself, until when; NULL: as long as it has it.
    Column("reserved_run", String(36)),
    Column("reserved_until_ms", BigInteger),
    PrimaryKeyConstraint("id"),
)

secret = Table(
    "secret",
    metadata,
    Column("name", String(32), nullable=False),
    Column("value", String(64), nullable=False),
    PrimaryKeyConstraint("name"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(64), nullable=False),
    Column("holder", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("lock_key", BigInteger),
    PrimaryKeyConstraint("name"),
)

# The list of an account's runs: a number is given out under the lock of the account's row, so that whoever reads up to
# a number has seen all below it.
account_log = Table(
    "account_log",
    metadata,
    Column("account", String(128), nullable=False),
    Column("newest", BigInteger, nullable=False),
    PrimaryKeyConstraint("account"),
)

line = Table(
    "line",
    metadata,
    Column("account", String(128), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("account", "number"),
    Index("ix_line_time_ms", "time_ms"),
)

# One row: the first revision whose programs may use the schema. A migration that they do not get along with raises it.
usable = Table("usable", metadata, Column("since", String(32), nullable=False))
