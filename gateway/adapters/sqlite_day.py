"""One day of the embedded location index: a SQLite file, its schema, and the writing of batches into it.

Measured with 15,000 devices and 20 events a message, batches of 2,000, each synced, beside a Python thread that spins:
37,000 rows a second up to 1 million rows, 25,600 at 5 million. What makes it so: one statement a batch, because SQLite
lets go of the interpreter's lock once a statement (`executemany` once a row: 246 rows a second); the table's own key is
the time, so that rows are appended; identity, track and cell of one device's events are neighbours in their indices.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import json

from gateway.adapters.sqlite_file import open_store, store_errors
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.cells import CELL_BITS, cell
from gateway.locations.outcome import Rejection

SCHEMA_VERSION = 1
DAY_MS = 86_400_000

# The key of a row is account, time and a tie-breaker in one integer of 63 bits: account number (16), ms of the day
# (27), sequence (20). The key of a cell is the account number (16) and the cell (46).
SEQUENCE_BITS = 20
TIME_BITS = 27
ACCOUNT_SHIFT = TIME_BITS + SEQUENCE_BITS
MAX_ACCOUNTS = 1 << 16
_SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1
# Coprime with the number of sequences, so that repeated jumps reach all of them.
_SEQUENCE_JUMP = 174_763
_JUMPS = 32

SCHEMA = """
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

# A checkpoint moves pages that were written many times only once: the larger the log, the less is moved, and the
# longer the commit takes that triggers it.
CHECKPOINT_BYTES = 32 * 1024 * 1024
CACHE_BYTES = 64 * 1024 * 1024
# Statements of a few sizes are prepared once and kept; a batch is padded with NULLs to the next one. The largest stays
# below the 32,766 parameters that SQLite allows by default.
_SIZES = (1, 4, 16, 64, 256, 512, 1024, 2048, 4096)
_COLUMNS = 7
MAX_CACHED_DEVICES = 200_000

_encode = json.Encoder().encode


@cache
def _insert(rows: int) -> str:
    values = ",".join(["(?,?,?,?,?,?,?)"] * rows)
    # Only the identity may conflict silently: a key that is taken must be an error, or an event would be lost.
    return (
        f"INSERT INTO location SELECT * FROM (VALUES {values}) WHERE column1 IS NOT NULL "  # noqa: S608 - placeholders
        "ON CONFLICT (device, id) DO NOTHING"
    )


@cache
def _insert_devices(rows: int) -> str:
    return f"INSERT OR IGNORE INTO device (account, name) SELECT column2, column3 FROM {_wanted_devices(rows)}"  # noqa: S608


@cache
def _find_devices(rows: int) -> str:
    """One row with `position:number` of all devices: a row each would wait for the interpreter's lock once each."""
    return (
        f"SELECT group_concat(column1 || ':' || number) FROM (SELECT * FROM {_wanted_devices(rows)}) "  # noqa: S608
        "CROSS JOIN device ON account = column2 AND name = column3"
    )


def _wanted_devices(rows: int) -> str:
    """Position, number of the account, name of the device. Not through JSON: its functions cut text at U+0000."""
    values = ",".join(["(?,?,?)"] * rows)
    return f"(VALUES {values}) WHERE column1 IS NOT NULL"


def _pad(values: list[object], columns: int) -> int:
    """Fill up with NULLs to the next size of statements; how many rows that is."""
    rows = len(values) // columns
    size = next(size for size in _SIZES if size >= rows)
    values += [None] * ((size - rows) * columns)
    return size


class DayWriter:
    """Writes to one day's file. Blocks; used by one thread."""

    def __init__(self, path: Path, day: int) -> None:
        """`day` is in days since the Unix epoch, UTC. Raises StoreError or SchemaError."""
        self._path = path
        self._midnight_ms = day * DAY_MS
        self._sequence = 0
        self._accounts: dict[str, int] = {}
        self._devices: dict[tuple[str, str], tuple[int, int]] = {}
        self._connection = open_store(
            path, SCHEMA, SCHEMA_VERSION, checkpoint_bytes=CHECKPOINT_BYTES, cache_bytes=CACHE_BYTES
        )

    def close(self) -> None:
        """Close the file, which moves its log into it."""
        self._connection.close()

    def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """Commit the events, all of this day, with fsync; returns those (by position) that cannot be stored.

        Raises StoreError; then nothing of them is stored.
        """
        with store_errors(self._path):
            for _ in range(_JUMPS):
                try:
                    return self._write(groups)
                except sqlite3.IntegrityError:
                    # A key is taken: rows of the same ms from before a restart or a million events ago.
                    self._sequence += _SEQUENCE_JUMP
        raise StoreError(f"{self._path}: an account has too many events of the same millisecond")

    def _write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        if len(self._devices) > MAX_CACHED_DEVICES:
            self._devices.clear()
        missing = [group for group in groups if (group.account, group.device) not in self._devices]
        refused: dict[int, Rejection] = {}
        if not missing:
            rows = self._rows(groups, refused)
            if len(rows) <= _SIZES[-1] * _COLUMNS:
                # Outside of a transaction one statement is one, and one handover of the interpreter's lock.
                self._insert(rows)
                return refused
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._learn(missing)
            self._insert(self._rows(groups, refused))
            self._connection.execute("COMMIT")
        except BaseException:
            self._forget_numbers()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return refused

    def _forget_numbers(self) -> None:
        self._devices.clear()
        self._accounts.clear()

    def _learn(self, groups: Sequence[DeviceEvents]) -> None:
        """Look up the numbers of accounts and devices, giving new ones a number."""
        if not groups:
            return
        for account in {group.account for group in groups} - self._accounts.keys():
            self._connection.execute("INSERT OR IGNORE INTO account (name) VALUES (?)", (account,))
            row = self._connection.execute("SELECT number FROM account WHERE name = ?", (account,)).fetchone()
            self._accounts[account] = row[0] - 1
        names = list({(group.account, group.device): None for group in groups})
        for start in range(0, len(names), _SIZES[-1]):
            part = names[start : start + _SIZES[-1]]
            wanted: list[object] = []
            for position, (account, device) in enumerate(part):
                wanted += (position, self._accounts[account], device)
            size = _pad(wanted, 3)
            self._connection.execute(_insert_devices(size), wanted)
            found: str = self._connection.execute(_find_devices(size), wanted).fetchone()[0]
            for pair in found.split(","):
                place, _, number = pair.partition(":")
                account, device = part[int(place)]
                self._devices[account, device] = (self._accounts[account], int(number))

    def _rows(self, groups: Sequence[DeviceEvents], refused: dict[int, Rejection]) -> list[object]:
        """The values of all rows, one after the other."""
        values: list[object] = []
        midnight_ms, sequence = self._midnight_ms, self._sequence
        first = last = 0
        for group in groups:
            account, device = self._devices[group.account, group.device]
            first, last = last, last + len(group.events)
            if account >= MAX_ACCOUNTS:
                rejection = Rejection(f"the embedded index holds {MAX_ACCOUNTS} accounts a day", poison=True)
                refused |= dict.fromkeys(range(first, last), rejection)
                continue
            account_cells = account << CELL_BITS
            account_key = account << ACCOUNT_SHIFT
            for event in group.events:
                lat, lon = event.lat, event.lon
                key = account_key | (event.time - midnight_ms) << SEQUENCE_BITS | sequence & _SEQUENCE_MASK
                values += (key, device, event.id, account_cells | cell(lat, lon), lat, lon, _encode(event))
                sequence += 1
        self._sequence = sequence
        return values

    def _insert(self, values: list[object]) -> None:
        most = _SIZES[-1] * _COLUMNS
        for start in range(0, len(values), most):
            part = values[start : start + most] if len(values) > most else values
            self._connection.execute(_insert(_pad(part, _COLUMNS)), part)
