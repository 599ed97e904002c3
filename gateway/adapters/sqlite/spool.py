"""The spool: a durable queue in one SQLite file, used by one thread.

One record holds one whole batch, which the caller has gathered: that is the group commit. Torn writes at the end of
the log are recognised by SQLite's checksums; damage inside the file by its structure and a checksum a record.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

from msgspec import ValidationError, json
from msgspec.structs import asdict

from gateway.adapters.sqlite.file import make_folder, store_errors
from gateway.adapters.sqlite.manifest import Manifest
from gateway.adapters.sqlite.threaded_file import ThreadedFile
from gateway.errors import DamagedStoreError, SpoolFullError, StoreError
from gateway.locations.batch import DeviceEvents, count
from gateway.locations.event import LocationEvent, StoredScalar
from gateway.locations.ports import SpoolRecord
from gateway.telemetry.log import Log

CHECKPOINT_BYTES = 16 * 1024 * 1024
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE record (
    number INTEGER PRIMARY KEY AUTOINCREMENT, events INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE damaged (number INTEGER PRIMARY KEY, events INTEGER NOT NULL, body BLOB NOT NULL);
"""

_log = Log("spool")
# JSON, not MessagePack: attributes may hold whole numbers of more than 64 bits, which came as JSON.
_encode = json.Encoder().encode
_decode_strictly = json.Decoder(list[DeviceEvents]).decode


class _StoredEvent(LocationEvent, frozen=True, gc=False):
    attributes: dict[str, StoredScalar] | None = None


class _StoredGroup(DeviceEvents, frozen=True):
    events: list[_StoredEvent]


_decode_loosely = json.Decoder(list[_StoredGroup]).decode


def decode(body: bytes) -> list[DeviceEvents]:
    """The groups of a record. Raises msgspec.MsgspecError and others for one that cannot be read."""
    try:
        return _decode_strictly(body)
    except ValidationError:
        # Older versions took whole numbers of any length.
        groups = _decode_loosely(body)
    return [
        DeviceEvents(group.account, group.device, [LocationEvent(**asdict(event)) for event in group.events])
        for group in groups
    ]


class SQLiteSpool:
    """The Spool port on the file `path`, at most `max_bytes` of records."""

    def __init__(self, path: Path, max_bytes: int = 8 << 30) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = ThreadedFile(path, "spool", SCHEMA, SCHEMA_VERSION, CHECKPOINT_BYTES)
        self._manifest = Manifest(path.with_name(f"{path.name}.manifest"))
        self._events = 0
        self._bytes = 0

    @property
    def events(self) -> int:
        """How many events it holds."""
        return self._events

    @property
    def size_bytes(self) -> int:
        """How many bytes the records take."""
        return self._bytes

    async def open(self) -> None:
        """See the port. What cannot be read is kept beside it, in a file named `….damaged-1` and so on."""
        await self._file.run(self._open)

    async def close(self) -> None:
        """See the port. Harmless when called again."""
        await self._file.close(self._leave)

    async def append(self, groups: Sequence[DeviceEvents]) -> None:
        """See the port."""
        await self._file.run(lambda: self._append(groups))

    async def oldest(self, after: int = 0) -> SpoolRecord | None:
        """See the port. A record whose checksum is wrong is set aside in a table of its own."""
        return await self._file.run(lambda: self._oldest(after))

    async def keep(self, number: int, groups: Sequence[DeviceEvents]) -> None:
        """See the port."""
        await self._file.run(lambda: self._keep(number, groups))

    async def remove(self, number: int) -> None:
        """See the port."""
        await self._file.run(lambda: self._remove(number))

    async def set_aside(self, number: int) -> None:
        """See the port: the record goes to a table of its own."""
        await self._file.run(lambda: self._set_aside(number))

    # What follows runs in the thread.

    def _open(self) -> None:
        make_folder(self._path.parent)
        self._manifest.load()
        if self._manifest.knows(self._path) and not self._path.exists():
            _log.error("spool_missing", file=str(self._path))
        try:
            self._manifest.check_size(self._path)
            self._file.connect()
            self._manifest.check(self._path, self._pages())
            self._count()
        except DamagedStoreError as error:
            self._salvage(error)
        self._remember()

    def _count(self) -> None:
        with store_errors(self._path):
            row = self._file.db.execute("SELECT total(events), total(length(body)) FROM record").fetchone()
        self._events, self._bytes = int(row[0]), int(row[1])

    def _remember(self) -> None:
        self._manifest.held(self._path.name, self._pages())
        self._manifest.save()

    def _pages(self) -> int:
        with store_errors(self._path):
            return int(self._file.db.execute("PRAGMA page_count").fetchone()[0])

    def _leave(self) -> None:
        if self._file.is_open:
            with contextlib.suppress(StoreError):
                self._remember()
        self._file.disconnect()

    def _append(self, groups: Sequence[DeviceEvents]) -> None:
        body, events = _encode(groups), count(groups)
        if self._bytes + len(body) > self._max_bytes:
            raise SpoolFullError(f"{self._path} holds {self._bytes} bytes, locations.spool_max_bytes is reached")
        with store_errors(self._path):
            self._file.db.execute(
                "INSERT INTO record (events, checksum, body) VALUES (?, ?, ?)", (events, crc32(body), body)
            )
        self._events += events
        self._bytes += len(body)

    def _oldest(self, after: int) -> SpoolRecord | None:
        while True:
            try:
                row = self._next(after)
            except DamagedStoreError as error:
                self._salvage(error)
                row = self._next(after)
            if row is None:
                return None
            number, checksum, body = row
            try:
                if crc32(body) == checksum:
                    return SpoolRecord(number, decode(body))
            except Exception as error:
                _log.debug("record_unreadable", number=number, problem=str(error))
            _log.error("record_damaged", file=str(self._path), number=number, kept="in the table damaged")
            self._set_aside(number)

    def _next(self, after: int) -> tuple[int, int, bytes] | None:
        with store_errors(self._path):
            row: tuple[int, int, bytes] | None = self._file.db.execute(
                "SELECT number, checksum, body FROM record WHERE number > ? ORDER BY number LIMIT 1", (after,)
            ).fetchone()
        return row

    def _set_aside(self, number: int) -> None:
        with store_errors(self._path):
            self._file.db.execute(
                "INSERT OR REPLACE INTO damaged SELECT number, events, body FROM record WHERE number = ?", (number,)
            )
        self._remove(number)

    def _keep(self, number: int, groups: Sequence[DeviceEvents]) -> None:
        body, events = _encode(groups), count(groups)
        with store_errors(self._path):
            db = self._file.db
            before = db.execute("SELECT events, length(body) FROM record WHERE number = ?", (number,)).fetchone()
            db.execute(
                "UPDATE record SET events = ?, checksum = ?, body = ? WHERE number = ?",
                (events, crc32(body), body, number),
            )
        if before is not None:
            self._events += events - before[0]
            self._bytes += len(body) - before[1]

    def _remove(self, number: int) -> None:
        with store_errors(self._path):
            row = self._file.db.execute(
                "DELETE FROM record WHERE number = ? RETURNING events, length(body)", (number,)
            ).fetchall()
        if row:
            self._events -= row[0][0]
            self._bytes -= row[0][1]

    def _salvage(self, cause: StoreError) -> None:
        """Start a new file with every record that can still be read; the damaged one is kept."""
        self._file.disconnect()
        aside = next(
            path
            for path in (self._path.with_name(f"{self._path.name}.damaged-{n}") for n in range(1, 10_000))
            if not path.exists()
        )
        with store_errors(self._path):
            # The log goes along: what it holds is part of the file.
            for suffix in ("-wal", "-shm", ""):
                part = self._path.with_name(self._path.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
        self._file.connect()
        with store_errors(self._path):
            self._file.db.execute("BEGIN IMMEDIATE")
            self._file.db.executemany("INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?)", _readable(aside))
            self._file.db.execute("COMMIT")
        self._count()
        _log.error("spool_damaged", kept=str(aside), events=self._events, problem=str(cause))


def _readable(path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """The records of a damaged file from both ends, up to where reading fails."""
    last = 0
    for order in ("ASC", "DESC"):
        connection = sqlite3.connect(path)
        try:
            for row in connection.execute(f"SELECT number, events, checksum, body FROM record ORDER BY number {order}"):  # noqa: S608
                if order == "DESC" and row[0] <= last:
                    return
                yield row
                last = row[0] if order == "ASC" else last
        except sqlite3.Error:
            continue
        finally:
            connection.close()
