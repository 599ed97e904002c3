"""The newest rows of a day's file: stored, found by searches, and not in its indices yet.

A commit writes every page it touches. One event each of many devices touches a page of its own in each of the three
indices of `location`; here it goes behind the one before it. Thousands of such rows are then moved at once, and find
their neighbours on the same pages. No row is in both tables, and a row keeps its key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container
from functools import cache
from pathlib import Path

from gateway.adapters.sqlite.many_rows import values_of
from gateway.telemetry.log import Log

SCHEMA = """
CREATE TABLE fresh (
    key INTEGER PRIMARY KEY, device INTEGER NOT NULL, id TEXT NOT NULL, cell INTEGER NOT NULL,
    lat REAL NOT NULL, lon REAL NOT NULL, document BLOB NOT NULL
);
"""
# Moving them holds up the next commit for some 20 ms, if that comes at once. With twice as many an event takes 3 us of
# processor time less, and of acks that wait for it the slowest come 25 ms later.
SETTLE_ROWS = 4000
# A device's events are neighbours by themselves: so many in one batch need no second step.
NEIGHBOURS = 8

_log = Log("locations")


@cache
def insert(rows: int) -> str:
    """The statement that adds rows, without those whose identity is in the indices already."""
    # A key that is taken must be an error, or an event would be lost: a document must not be NULL. Joins and not
    # EXISTS, for which SQLite opens an index anew for each row.
    return (
        "INSERT INTO fresh SELECT column1, column2, column3, column4, column5, column6, "  # noqa: S608 - placeholders
        "CASE WHEN taken.key IS NULL THEN column7 END "
        f"FROM {values_of(rows, 7)} "
        "LEFT JOIN location AS same ON same.device = column2 AND same.id = column3 "
        "LEFT JOIN location AS taken ON taken.key = column1 "
        "WHERE column1 >= 0 AND same.key IS NULL"
    )


class Fresh:
    """The rows of one open file, with those that a crash left. An identity is a device's number and an event's id."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._is_read = False
        self._known: set[tuple[int, str]] = set()
        self._coming: set[tuple[int, str]] = set()
        # The file held some before: their keys may meet those that are given now.
        self._inherited = False
        self._due_rows = SETTLE_ROWS

    @property
    def is_due(self) -> bool:
        """Whether `settle` should be called."""
        return len(self._known) >= self._due_rows

    def should_take(self, rows: int, groups: int) -> bool:
        """Whether a batch with that many rows, of that many groups, goes here and not into the indices."""
        return self._inherited or rows < min(NEIGHBOURS * groups, SETTLE_ROWS)

    def begin(self) -> tuple[Container[tuple[int, str]], set[tuple[int, str]]]:
        """A batch follows: the identities that are fresh, and a set for those that it brings. Raises sqlite3.Error."""
        self._coming = set()
        if not self._is_read:
            # Not before it is needed: a file that is damaged here can be searched. A row may hold anything.
            left = self._connection.execute("SELECT device, CAST(id AS BLOB) FROM fresh").fetchall()
            self._known = {(device, (name or b"").decode(errors="replace")) for device, name in left}
            self._inherited = bool(left)
            self._due_rows = 0 if left else SETTLE_ROWS
            self._is_read = True
        return self._known, self._coming

    def committed(self) -> None:
        """The batch is stored as fresh."""
        self._known |= self._coming

    def settle(self) -> None:
        """Move all rows into the indices, if any were added. Raises sqlite3.Error; then they are where they were."""
        if not self._known:
            return
        connection = self._connection
        # Should it fail, so much has to come before it is tried again.
        self._due_rows = len(self._known) + SETTLE_ROWS
        connection.execute("BEGIN IMMEDIATE")
        try:
            (rows,) = connection.execute("SELECT count(*) FROM fresh").fetchone()
            # No row breaks a rule unless it is damaged; that one must not keep the others here.
            moved = connection.execute("INSERT OR IGNORE INTO location SELECT * FROM fresh").rowcount
            if moved == rows:
                connection.execute("DELETE FROM fresh")
            else:
                _log.error("rows_damaged", file=str(self._path), rows=rows - moved)
                connection.execute(
                    "DELETE FROM fresh WHERE EXISTS "
                    "(SELECT 1 FROM location WHERE location.key = fresh.key AND location.document = fresh.document)"
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._known.clear()
        self._inherited = False
        self._due_rows = SETTLE_ROWS
