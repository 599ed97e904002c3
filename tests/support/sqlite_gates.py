"""Gates in an SQLite store: a transaction of the program stands at a boundary until the program is killed.

A trigger counts without an end. So what was stored before is stored, and what is about to be is not.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.gates import BOUNDARIES

# A transaction of the program ends long before that.
STANDS_S = 0.5


class SqliteGates:
    """`close` one, wait until somebody stands before it, kill that process, and `clear` what is left."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def close(self, boundary: str) -> None:
        table, event, condition = BOUNDARIES[boundary]
        self._do(
            "CREATE VIEW endless AS WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number) "
            "SELECT count(*) AS n FROM number;"
            f"CREATE TRIGGER gate AFTER {event} ON {table} WHEN {condition} BEGIN SELECT n FROM endless; END;"
        )

    def stands(self) -> bool:
        """Whether somebody stands before it: nobody else can write."""
        with closing(sqlite3.connect(self._path, timeout=STANDS_S, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            connection.execute("ROLLBACK")
            return False

    def clear(self) -> None:
        self._do("DROP TRIGGER gate; DROP VIEW endless;")

    def _do(self, script: str) -> None:
        with closing(sqlite3.connect(self._path, timeout=20)) as connection:
            connection.executescript(script)
