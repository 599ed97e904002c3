"""The HistoryStore port in one SQLite file: a ring of the newest connections of each device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from ipaddress import IPv6Address
from pathlib import Path

from gateway.adapters.sqlite.file import make_folder, remove_store, store_errors
from gateway.adapters.sqlite.many_rows import pad, values_of
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
_READ = """
SELECT id, gateway, address, class, ended_ms, code, reason, fault, drain, drain_ms
FROM connection JOIN device ON device.number = connection.device WHERE account = ? AND name = ?
ORDER BY id DESC
"""
_ROWS = 512
_OLD = "SELECT number FROM device WHERE newest_ms < ? LIMIT 1000"
_HOUR_S = 3600.0
_DAY_MS = 86_400_000

_log = Log("history")


# Of these lists no device is in more than one row.
@cache
def _add_devices(rows: int) -> str:
    """Of rows (ms, account, device, id)."""
    return f"""
    INSERT INTO device (account, name, connections, newest_ms)
    SELECT column2, column3, 1, column1 FROM {values_of(rows, 4)} WHERE column1 >= 0 AND NOT EXISTS (
        SELECT 1 FROM connection JOIN device ON device.number = connection.device
        WHERE account = column2 AND name = column3 AND id = column4)
    ON CONFLICT (account, name) DO UPDATE SET connections = connections + 1, newest_ms = excluded.newest_ms
    """  # noqa: S608 - placeholders


@cache
def _add(rows: int) -> str:
    """Of rows (ms, account, device, id, gateway, address, class)."""
    return f"""
    INSERT OR REPLACE INTO connection (device, place, id, gateway, address, class)
    SELECT number, connections % {MAX_KEPT}, column4, column5, column6, column7
    FROM {values_of(rows, 7)} CROSS JOIN device ON account = column2 AND name = column3
    WHERE column1 >= 0 AND NOT EXISTS (SELECT 1 FROM connection WHERE device = number AND id = column4)
    """  # noqa: S608 - placeholders


@cache
def _end(rows: int) -> str:
    """Of rows (ms, account, device, id, code, reason, fault, drain, ms of the drain)."""
    return f"""
    UPDATE connection SET
        ended_ms = column1, code = column5, reason = column6, fault = column7, drain = column8, drain_ms = column9
    FROM {values_of(rows, 9)} WHERE column1 >= 0 AND id = column4
    AND device = (SELECT number FROM device WHERE account = column2 AND name = column3)
    """  # noqa: S608 - placeholders


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
                for began, ended in _rounds(happenings):
                    for start in range(0, len(began), _ROWS):
                        self._begin(began[start : start + _ROWS])
                    for start in range(0, len(ended), _ROWS):
                        self._end(ended[start : start + _ROWS])
                self._file.db.execute("COMMIT")
            except BaseException:
                self._file.db.execute("ROLLBACK")
                raise

    def _begin(self, connections: Sequence[Began]) -> None:
        devices: list[object] = []
        rows: list[object] = []
        for began in connections:
            who = (time_ms_of(began.id_high), began.account, began.device, _bytes(began.id_high, began.id_low))
            devices += who
            address = _bytes(began.address_high, began.address_low)
            rows += (*who, self._gateway, address, began.device_class)
        self._file.db.execute(_add_devices(pad(devices, 4)), devices)
        self._file.db.execute(_add(pad(rows, 7)), rows)

    def _end(self, connections: Sequence[Ended]) -> None:
        rows: list[object] = []
        for ended in connections:
            rows += (ended.time_ms, ended.account, ended.device, _bytes(ended.id_high, ended.id_low))
            rows += (ended.code, ended.reason, str(ended.fault), *(ended.drain or (None, None)))
        self._file.db.execute(_end(pad(rows, 9)), rows)

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


def _rounds(happenings: Sequence[Happening]) -> list[tuple[list[Began], list[Ended]]]:
    """What may be written together, one after the other: each device once in each, in the order of what it did."""
    rounds: list[tuple[list[Began], list[Ended]]] = []
    seen: Counter[tuple[str, str]] = Counter()
    for happening in happenings:
        who = happening.account, happening.device
        number = seen[who]
        seen[who] = number + 1
        if number == len(rounds):
            rounds.append(([], []))
        if isinstance(happening, Began):
            rounds[number][0].append(happening)
        else:
            rounds[number][1].append(happening)
    return rounds


def _bytes(high: int, low: int) -> bytearray:
    """16 bytes, in the one type for which the driver does not look for an adapter."""
    return bytearray((high << 64 | low).to_bytes(16))


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
