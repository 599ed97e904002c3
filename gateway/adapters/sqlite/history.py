"""The HistoryStore port in one SQLite file: a ring of the newest connections of each device."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path

from gateway.adapters.sqlite.file import make_folder, remove_store, store_errors
from gateway.adapters.sqlite.threaded_file import ThreadedFile
from gateway.clock import Clock
from gateway.errors import DamagedStoreError
from gateway.history.record import MAX_KEPT, Began, Drained, Ended, Happening, PastConnection
from gateway.telemetry.log import Log
from gateway.wire.close_codes import Fault
from gateway.wire.uuid7 import text_of, time_ms_of

CHECKPOINT_BYTES = 4 * 1024 * 1024
SCHEMA_VERSION = 1
# `connections` counts all that a device ever had: its remainder is the place of the newest in the ring.
SCHEMA = """
CREATE TABLE device (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, connections INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL, UNIQUE (account, name)
);
CREATE INDEX device_newest ON device (newest_ms);
CREATE TABLE connection (
    device INTEGER NOT NULL, place INTEGER NOT NULL, id BLOB NOT NULL, gateway TEXT NOT NULL, address BLOB NOT NULL,
    class TEXT NOT NULL, ended_ms INTEGER, code INTEGER, reason TEXT, fault TEXT, drain TEXT, drain_ms INTEGER,
    PRIMARY KEY (device, place)
) WITHOUT ROWID;
"""
_ADD_DEVICE = """
INSERT INTO device (account, name, connections, newest_ms) VALUES (?, ?, 1, ?)
ON CONFLICT (account, name) DO UPDATE SET connections = connections + 1, newest_ms = excluded.newest_ms
RETURNING number, connections
"""
_ADD = "INSERT OR REPLACE INTO connection (device, place, id, gateway, address, class) VALUES (?, ?, ?, ?, ?, ?)"
_KNOWN = """
SELECT 1 FROM connection JOIN device ON device.number = connection.device
WHERE account = ? AND name = ? AND id = ?
"""
_END = """
UPDATE connection SET ended_ms = ?, code = ?, reason = ?, fault = ?, drain = ?, drain_ms = ?
WHERE device = (SELECT number FROM device WHERE account = ? AND name = ?) AND id = ?
"""
_READ = """
SELECT id, gateway, address, class, ended_ms, code, reason, fault, drain, drain_ms
FROM connection JOIN device ON device.number = connection.device WHERE account = ? AND name = ?
ORDER BY id DESC
"""
_OLD = "SELECT number FROM device WHERE newest_ms < ? LIMIT 1000"
_HOUR_S = 3600.0
_DAY_MS = 86_400_000

_log = Log("history")


class SQLiteHistory:
    """`gateway` is whose connections are written. Devices without a connection for `keep_days` are forgotten."""

    def __init__(self, path: Path, gateway: str, clock: Clock, keep_days: int) -> None:
        self._path = path
        self._gateway = gateway
        self._clock = clock
        self._keep_days = keep_days
        self._file = ThreadedFile(path, "history", SCHEMA, SCHEMA_VERSION, CHECKPOINT_BYTES)
        self._cleaned_s = clock.monotonic_s()

    async def open(self) -> None:
        """See the port. A damaged file is moved away, and a new one begun: this is nothing that was acknowledged."""
        await self._file.run(self._open)

    async def close(self) -> None:
        """See the port."""
        await self._file.close(self._file.disconnect)

    async def write(self, happenings: Sequence[Happening]) -> None:
        """See the port."""
        await self._file.run(lambda: self._write(happenings))

    async def read(self, account: str, device: str) -> list[PastConnection]:
        """See the port."""
        return await self._file.run(lambda: self._read(account, device))

    # What follows runs in the thread.

    def _open(self) -> None:
        make_folder(self._path.parent)
        try:
            self._file.connect()
        except DamagedStoreError as error:
            self._begin_anew(error)

    def _begin_anew(self, error: DamagedStoreError) -> None:
        kept = self._path.with_name(f"{self._path.name}.damaged")
        _log.error("history_damaged", message=str(error), kept=str(kept))
        self._file.disconnect()
        with store_errors(self._path):
            self._path.replace(kept)
            remove_store(self._path)
        self._file.connect()

    def _write(self, happenings: Sequence[Happening]) -> None:
        try:
            self._store(happenings)
        except DamagedStoreError as error:
            self._begin_anew(error)
            self._store(happenings)
        if self._clock.monotonic_s() - self._cleaned_s > _HOUR_S:
            self._cleaned_s = self._clock.monotonic_s()
            self._forget()

    def _store(self, happenings: Sequence[Happening]) -> None:
        with store_errors(self._path):
            self._file.db.execute("BEGIN IMMEDIATE")
            try:
                for happening in happenings:
                    if isinstance(happening, Began):
                        self._begin(happening)
                    else:
                        self._end(happening)
                self._file.db.execute("COMMIT")
            except BaseException:
                self._file.db.execute("ROLLBACK")
                raise

    def _begin(self, began: Began) -> None:
        name = _name(began)
        if self._file.db.execute(_KNOWN, (began.account, began.device, name)).fetchone() is not None:
            return
        who = (began.account, began.device, time_ms_of(began.id_high))
        number, connections = self._file.db.execute(_ADD_DEVICE, who).fetchone()
        address = began.address_high.to_bytes(8) + began.address_low.to_bytes(8)
        self._file.db.execute(_ADD, (number, connections % MAX_KEPT, name, self._gateway, address, began.device_class))

    def _end(self, ended: Ended) -> None:
        drain, drain_ms = ended.drain or (None, None)
        how = (ended.time_ms, ended.code, ended.reason, str(ended.fault), drain, drain_ms)
        self._file.db.execute(_END, (*how, ended.account, ended.device, _name(ended)))

    def _read(self, account: str, device: str) -> list[PastConnection]:
        with store_errors(self._path):
            return [_record(*row) for row in self._file.db.execute(_READ, (account, device))]

    def _forget(self) -> None:
        """Some of those that have not been here for long; the rest an hour later."""
        with store_errors(self._path):
            before_ms = self._clock.time_ms() - self._keep_days * _DAY_MS
            old = self._file.db.execute(_OLD, (before_ms,)).fetchall()
            self._file.db.execute("BEGIN IMMEDIATE")
            self._file.db.executemany("DELETE FROM connection WHERE device = ?", old)
            self._file.db.executemany("DELETE FROM device WHERE number = ?", old)
            self._file.db.execute("COMMIT")


def _name(happening: Happening) -> bytes:
    return happening.id_high.to_bytes(8) + happening.id_low.to_bytes(8)


def _record(
    name: bytes,
    gateway: str,
    address: bytes,
    device_class: str,
    ended_ms: int | None,
    code: int | None,
    reason: str | None,
    fault: str | None,
    drain: str | None,
    drain_ms: int | None,
) -> PastConnection:
    high, low = int.from_bytes(name[:8]), int.from_bytes(name[8:])
    peer = IPv6Address(address)
    return PastConnection(
        text_of(high, low),
        gateway,
        str(peer.ipv4_mapped or peer),
        device_class,
        time_ms_of(high),
        ended_ms,
        code,
        reason,
        None if fault is None else Fault(fault),
        None if drain is None or drain_ms is None else Drained(drain, drain_ms),
    )
