"""Day files and spools as versions with schema 1 wrote them, so that tests can open them with this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from msgspec import json

from gateway.locations.batch import DeviceEvents
from gateway.locations.cells import cell
from tests.support.locations import DAY_MS

DAY_SCHEMA = """
CREATE TABLE account (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE device (
    number INTEGER PRIMARY KEY, account INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE (account, name)
);
CREATE TABLE location (
    key INTEGER PRIMARY KEY, device INTEGER NOT NULL, id TEXT NOT NULL, cell INTEGER NOT NULL,
    lat REAL NOT NULL, lon REAL NOT NULL, document BLOB NOT NULL
);
CREATE UNIQUE INDEX location_identity ON location (device, id);
CREATE INDEX location_track ON location (device);
CREATE INDEX location_cell ON location (cell);
"""
SPOOL_SCHEMA = """
CREATE TABLE record (
    number INTEGER PRIMARY KEY AUTOINCREMENT, events INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE damaged (number INTEGER PRIMARY KEY, events INTEGER NOT NULL, body BLOB NOT NULL);
"""


def write_day(path: Path, groups: Sequence[DeviceEvents]) -> None:
    """A day file of schema 1 with these events, all of the day of the first."""
    with _made(path, DAY_SCHEMA) as store:
        sequence = 0
        for group in groups:
            store.execute("INSERT OR IGNORE INTO account (name) VALUES (?)", (group.account,))
            (account,) = store.execute("SELECT number FROM account WHERE name = ?", (group.account,)).fetchone()
            store.execute("INSERT OR IGNORE INTO device (account, name) VALUES (?, ?)", (account - 1, group.device))
            (device,) = store.execute(
                "SELECT number FROM device WHERE account = ? AND name = ?", (account - 1, group.device)
            ).fetchone()
            for one in group.events:
                key = account - 1 << 47 | one.time % DAY_MS << 20 | sequence
                row = (key, device, one.id, account - 1 << 46 | cell(one.lat, one.lon), one.lat, one.lon)
                store.execute("INSERT INTO location VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, json.encode(one)))
                sequence += 1
    store.close()


def write_spool(path: Path, *records: Sequence[DeviceEvents]) -> None:
    """A spool of schema 1."""
    with _made(path, SPOOL_SCHEMA) as store:
        for groups in records:
            body = json.encode(groups)
            events = sum(len(group.events) for group in groups)
            store.execute("INSERT INTO record (events, checksum, body) VALUES (?, ?, ?)", (events, crc32(body), body))
    store.close()


def _made(path: Path, schema: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    store = sqlite3.connect(path)
    store.executescript(f"PRAGMA journal_mode = WAL; BEGIN; {schema} PRAGMA user_version = 1; COMMIT;")
    return store
