"""Reads which events the stores of a stopped gateway hold, and changes nothing in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.adapters.sqlite.file import store_errors
from gateway.adapters.sqlite.layout import INDEX_FOLDER, SPOOL_NAME, day_file_name
from gateway.adapters.sqlite.spool import decode

# A device's account is the number of its account less one (day.py).
_INDEXED = """
SELECT device.name, row.id FROM {rows} AS row JOIN device ON device.number = row.device
WHERE device.account = (SELECT number - 1 FROM account WHERE name = ?)
"""
# A kill leaves rows that are not in the indices yet. Files that were not opened since these exist have no such table.
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('location', 'fresh')"


def indexed(folder: Path, account: str) -> Iterator[tuple[str, str]]:
    """Device and id of each row in the index of an account; `folder` is the data folder. Raises StoreError."""
    for path in sorted((folder / INDEX_FOLDER).glob(day_file_name("????-??-??"))):
        with _opened(path) as database:
            for (rows,) in database.execute(_TABLES).fetchall():
                yield from database.execute(_INDEXED.format(rows=rows), (account,))


def spooled(folder: Path, account: str) -> Iterator[tuple[str, str]]:
    """Device and id of each event of an account that waits in the spool. Raises StoreError."""
    path = folder / SPOOL_NAME
    if not path.exists():
        return
    with _opened(path) as database:
        for (body,) in database.execute("SELECT body FROM record"):
            for group in decode(body):
                if group.account == account:
                    yield from ((group.device, event.id) for event in group.events)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with store_errors(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        yield database
