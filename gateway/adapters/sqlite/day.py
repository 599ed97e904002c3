"""One day of the embedded location index: a SQLite file, its schema, and the writing of batches into it.

Measured with 15,000 devices and 20 events a message, batches of 2,000, each synced, beside a Python thread that spins:
37,000 rows a second up to 1 million rows, 25,600 at 5 million. What makes it so: one statement a batch, because SQLite
lets go of the interpreter's lock once a statement (`executemany` once a row: 246 rows a second); the table's own key is
the time, so that rows are appended; identity, track and cell of one device's events are neighbours in their indices.
Rows that have no such neighbours in their batch are gathered first (fresh.py).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from msgspec import json

from gateway.adapters.sqlite import fresh
from gateway.adapters.sqlite.file import checkpoint, damaged, open_store, store_errors
from gateway.adapters.sqlite.many_rows import SIZES, pad, values_of
from gateway.adapters.sqlite.rows import MARK, pack_head, seed
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.cells import CELL_BITS, cell
from gateway.locations.event import DAY_MS
from gateway.locations.outcome import Rejection

SCHEMA_VERSION = 3

# The key of a row is account, time and a tie-breaker in one integer of 63 bits: account number (16), ms of the day
# (27), sequence (20). The key of a cell is the account number (16) and the cell (46). When a ms of an account is full a
# row takes the next free key, in a later ms; the largest displacement of an account's rows stands in its row.
SEQUENCE_BITS = 20
TIME_BITS = 27
ACCOUNT_SHIFT = TIME_BITS + SEQUENCE_BITS
MAX_ACCOUNTS = 1 << 16
_SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1
_NEXT_MS = 1 << SEQUENCE_BITS
MAX_DISPLACED_MS = (1 << TIME_BITS) - 1

SCHEMA = f"""
CREATE TABLE account (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, displaced_ms INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
);
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
{fresh.SCHEMA}"""
MIGRATIONS = {
    1: "ALTER TABLE account ADD COLUMN displaced_ms INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE account ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;",
    2: fresh.SCHEMA,
}
# What a row takes besides its document: keys, and its entries in three indices.
ROW_BYTES = 150

# A checkpoint moves pages that were written many times only once: the larger the log, the less is moved, and the
# longer the commit takes that triggers it.
CHECKPOINT_BYTES = 32 * 1024 * 1024
CACHE_BYTES = 64 * 1024 * 1024
_COLUMNS = 7
MAX_CACHED_DEVICES = 200_000
_MAX_CACHED_MS = 10_000

_encode = json.Encoder().encode


def find_account(connection: sqlite3.Connection, name: str) -> tuple[int, int] | None:
    """The number of an account, from 0, and its largest displacement in ms; None: the file does not know it.

    Where the displacement is damaged it may be any: searches then read more, and find the same.
    """
    row = connection.execute("SELECT number - 1, displaced_ms FROM account WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    number, displaced_ms = row
    intact = isinstance(displaced_ms, int) and 0 <= displaced_ms <= MAX_DISPLACED_MS
    return number, displaced_ms if intact else MAX_DISPLACED_MS


@cache
def _insert(rows: int) -> str:
    """The statement that adds rows to the indices."""
    # Only the identity may conflict silently: a key that is taken must be an error, or an event would be lost.
    return (
        f"INSERT INTO location SELECT * FROM {values_of(rows, _COLUMNS)} WHERE column1 >= 0 "  # noqa: S608 - placeholders
        "ON CONFLICT (device, id) DO NOTHING"
    )


@cache
def _add_bytes(rows: int) -> str:
    return (
        f"UPDATE account SET bytes = bytes + column2 FROM {values_of(rows, 2)} "  # noqa: S608 - placeholders
        "WHERE name = column1 AND column2 >= 0"
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
    return f"{values_of(rows, 3)} WHERE column1 >= 0"


class _Device(NamedTuple):
    account: int
    number: int
    checksum: int
    """What the checksums of its rows begin with."""


class DayWriter:
    """Writes to one day's file. Blocks; used by one thread."""

    def __init__(self, path: Path, day: int) -> None:
        """`day` is in days since the Unix epoch, UTC. Raises StoreError or SchemaError."""
        self._path = path
        self._midnight_ms = day * DAY_MS
        self._sequence = 0
        self._accounts: dict[str, int] = {}
        self._devices: dict[tuple[str, str], _Device] = {}
        # The next free tie-breaker of ms in which a key was found to be taken.
        self._free: dict[int, int] = {}
        self._displaced_ms: dict[int, int] = {}
        # Bytes by account: of the rows just built, of the last write, and of what the file does not say yet.
        self._built: dict[str, int] = {}
        self._added: dict[str, int] = {}
        self._unsaved: Counter[str] = Counter()
        self._connection = open_store(
            path, SCHEMA, SCHEMA_VERSION, MIGRATIONS, checkpoint_bytes=CHECKPOINT_BYTES, cache_bytes=CACHE_BYTES
        )
        self._fresh = fresh.Fresh(path, self._connection)

    def close(self) -> None:
        """Close the file, which moves its log into it."""
        try:
            # If it fails they stay where they are.
            with contextlib.suppress(StoreError):
                self.settle()
        finally:
            self._connection.close()

    @property
    def is_due(self) -> bool:
        """Whether it is time for `settle`."""
        return self._fresh.is_due

    def settle(self) -> None:
        """Move what is fresh into the indices; searches find the same as before. Raises StoreError."""
        with store_errors(self._path):
            self._fresh.settle()

    def added(self) -> Mapping[str, int]:
        """How many bytes the last `write` added, by account."""
        return self._added

    def account_bytes(self) -> Counter[str]:
        """How many bytes each account takes. Events that schema 1 wrote are not counted, nor are damaged rows.

        Raises StoreError.
        """
        with store_errors(self._path):
            rows = self._connection.execute(
                "SELECT name, bytes FROM account WHERE typeof(name) = 'text' AND typeof(bytes) = 'integer' "
                "AND bytes BETWEEN 1 AND (SELECT 4 * page_count * page_size FROM pragma_page_count, pragma_page_size)"
            ).fetchall()
        return Counter(dict(rows)) + self._unsaved

    def save_account_bytes(self) -> None:
        """Let the file say what each account takes; a crash forgets what was written since. Raises StoreError."""
        names = list(self._unsaved)
        with store_errors(self._path):
            for start in range(0, len(names), SIZES[-1]):
                values: list[object] = []
                for name in names[start : start + SIZES[-1]]:
                    values += (name, self._unsaved[name])
                self._connection.execute(_add_bytes(pad(values, 2)), values)
        self._unsaved.clear()

    def checkpoint(self) -> None:
        """Move the log into the file as far as readers allow. Raises StoreError."""
        with store_errors(self._path):
            checkpoint(self._connection)

    def pages(self) -> int:
        """How many pages the file has, its log included. It never has fewer than before. Raises StoreError."""
        with store_errors(self._path):
            return int(self._connection.execute("PRAGMA page_count").fetchone()[0])

    def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """Commit the events, all of this day, with fsync; returns those (by position) that cannot be stored.

        Raises StoreError, or whatever a row that breaks a rule of the schema raises; then nothing of them is stored.
        """
        with store_errors(self._path):
            try:
                refused = self._write(groups, in_free_keys=False)
            except sqlite3.IntegrityError:
                # A key is taken: rows of the same ms from before a restart or a million events ago.
                refused = self._write(groups, in_free_keys=True)
        self._unsaved.update(self._added)
        return refused

    def _write(self, groups: Sequence[DeviceEvents], *, in_free_keys: bool) -> Mapping[int, Rejection]:
        if len(self._devices) > MAX_CACHED_DEVICES:
            self._devices.clear()
        if len(self._free) > _MAX_CACHED_MS:
            self._free.clear()
        missing = [group for group in groups if (group.account, group.device) not in self._devices]
        refused: dict[int, Rejection] = {}
        if not missing and not in_free_keys:
            rows = self._rows(groups, refused)
            if len(rows) <= SIZES[-1] * _COLUMNS:
                # Outside of a transaction one statement is one, and one handover of the interpreter's lock.
                self._store(rows, len(groups))
                return refused
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._learn(missing)
            if in_free_keys:
                self._find_free(self._milliseconds(groups))
            self._store(self._rows(groups, refused), len(groups), "COMMIT")
        except BaseException:
            self._forget_numbers()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return refused

    def _forget_numbers(self) -> None:
        self._devices.clear()
        self._accounts.clear()
        self._free.clear()
        self._displaced_ms.clear()

    def _learn(self, groups: Sequence[DeviceEvents]) -> None:
        """Look up the numbers of accounts and devices, giving new ones a number."""
        if not groups:
            return
        for account in {group.account for group in groups} - self._accounts.keys():
            self._connection.execute("INSERT OR IGNORE INTO account (name) VALUES (?)", (account,))
            found = find_account(self._connection, account)
            if found is None:
                raise damaged(self._path, "an account that was written is not found")
            self._accounts[account], self._displaced_ms[found[0]] = found
        names = list({(group.account, group.device): None for group in groups})
        for start in range(0, len(names), SIZES[-1]):
            part = names[start : start + SIZES[-1]]
            wanted: list[object] = []
            for position, (account, device) in enumerate(part):
                wanted += (position, self._accounts[account], device)
            size = pad(wanted, 3)
            self._connection.execute(_insert_devices(size), wanted)
            numbers: str = self._connection.execute(_find_devices(size), wanted).fetchone()[0]
            for pair in numbers.split(","):
                place, _, number = pair.partition(":")
                account, device = part[int(place)]
                checksum = seed(account.encode(), device.encode())
                self._devices[account, device] = _Device(self._accounts[account], int(number), checksum)

    def _rows(self, groups: Sequence[DeviceEvents], refused: dict[int, Rejection]) -> list[object]:
        """The values of all rows, one after the other, without those that are fresh."""
        values: list[object] = []
        known, coming = self._fresh.begin()
        self._built = {}
        midnight_ms, sequence, free = self._midnight_ms, self._sequence, self._free
        first = last = 0
        for group in groups:
            account, device, checksum = self._devices[group.account, group.device]
            first, last = last, last + len(group.events)
            if account >= MAX_ACCOUNTS:
                rejection = Rejection(f"the embedded index holds {MAX_ACCOUNTS} accounts a day", poison=True)
                refused |= dict.fromkeys(range(first, last), rejection)
                continue
            account_cells = account << CELL_BITS
            account_key = account << ACCOUNT_SHIFT
            size = 0
            for event in group.events:
                identity = device, event.id
                if identity in known or identity in coming:
                    continue
                coming.add(identity)
                lat, lon = event.lat, event.lon
                key = account_key | (event.time - midnight_ms) << SEQUENCE_BITS
                if free and key in free:
                    key = self._free_key(account, key)
                else:
                    key |= sequence & _SEQUENCE_MASK
                    sequence += 1
                document = _encode(event)
                # A bytearray is bound as it is; for bytes the driver looks for an adapter first, in vain.
                row = bytearray(pack_head(MARK, crc32(document, checksum)) + document)
                size += len(row)
                values += (key, device, event.id, account_cells | cell(lat, lon), lat, lon, row)
            self._built[group.account] = self._built.get(group.account, 0) + size + ROW_BYTES * len(group.events)
        self._sequence = sequence
        return values

    def _milliseconds(self, groups: Sequence[DeviceEvents]) -> set[int]:
        """The first keys of all ms of these events."""
        return {
            self._devices[group.account, group.device].account << ACCOUNT_SHIFT
            | (event.time - self._midnight_ms) << SEQUENCE_BITS
            for group in groups
            for event in group.events
        }

    def _find_free(self, milliseconds: Iterable[int]) -> None:
        """Look up the next free tie-breaker of each ms, given by its first key. One statement, one row."""
        found: str | None = self._connection.execute(
            "SELECT group_concat(value || ':' || ifnull("
            "(SELECT max(key) FROM (SELECT max(key) AS key FROM location WHERE key BETWEEN value AND value | ? "
            "UNION ALL SELECT max(key) FROM fresh WHERE key BETWEEN value AND value | ?)), value - 1)) "
            "FROM json_each(?)",
            (_SEQUENCE_MASK, _SEQUENCE_MASK, json.encode(list(milliseconds)).decode()),
        ).fetchone()[0]
        for pair in (found or "").split(","):
            first, _, last = pair.partition(":")
            self._free[int(first)] = int(last) - int(first) + 1

    def _free_key(self, account: int, first: int) -> int:
        """A key that is not taken: of this ms, given by its first key, or of the next one that has room."""
        at = first
        while (free := self._free[at]) > _SEQUENCE_MASK:
            at += _NEXT_MS
            if at not in self._free:
                self._find_free((at,))
        self._free[at] = free + 1
        displaced_ms = (at - first) >> SEQUENCE_BITS
        if displaced_ms > self._displaced_ms.get(account, 0):
            self._displaced_ms[account] = displaced_ms
            self._connection.execute(
                "UPDATE account SET displaced_ms = ? WHERE number = ?", (displaced_ms, account + 1)
            )
        return at | free

    def _store(self, values: list[object], groups: int, commit: str = "") -> None:
        """Insert the rows, of so many groups, and commit unless one statement is all."""
        rows, before = len(values) // _COLUMNS, self._connection.total_changes
        is_fresh = self._fresh.should_take(rows, groups)
        self._insert_all(values, fresh.insert if is_fresh else _insert)
        if commit:
            self._connection.execute(commit)
        if is_fresh:
            self._fresh.committed()
        inserted = self._connection.total_changes - before
        # Duplicates take no room; whose they were is not known.
        share = inserted / rows if rows else 0.0
        self._added = self._built if inserted == rows else {name: int(n * share) for name, n in self._built.items()}

    def _insert_all(self, values: list[object], statement: Callable[[int], str]) -> None:
        maximum = SIZES[-1] * _COLUMNS
        for start in range(0, len(values), maximum):
            part = values[start : start + maximum] if len(values) > maximum else values
            self._connection.execute(statement(pad(part, _COLUMNS)), part)
