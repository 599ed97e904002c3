"""Searching the day files of the embedded location index. Blocks; a reader is used by one thread at a time.

A search returns through one row of one aggregate, because each row fetched would wait for the interpreter's lock once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, json

from gateway.adapters.sqlite_day import ACCOUNT_SHIFT, DAY_MS, SEQUENCE_BITS
from gateway.adapters.sqlite_file import open_reader, store_errors
from gateway.locations.cells import CELL_BITS, cover
from gateway.locations.geo import Box, enclose
from gateway.locations.query import Found, Query

# A shape that holds 1 of 50 rows or more is served by reading on in time, any other one through its cells: at most
# 1 of 50 rows of the day then, from one index. Which of both it is shows by trying.
BUDGET_PER_RESULT = 50
MIN_BUDGET_ROWS = 5000
# More rectangles than these are narrowed by the one around them: statements stay small.
MAX_BOXES = 8
MIN_CHUNK_ROWS = 200
MAX_CHUNK_ROWS = 16_000

_decode = json.Decoder(list[Found]).decode

_RESULT = (
    "SELECT count(*), min(key), max(key), group_concat('{\"device\":' || json_quote(name) || ',' || "
    "substr(CAST(document AS TEXT), 2), ',') FROM "
)


class Chunk(NamedTuple):
    """Rows in key order; `low` and `high` are the keys at both ends, of all rows looked at."""

    events: list[Found]
    rows: int
    low: int
    high: int


class _Scan(Struct):
    """What one query asks of one file: keys `low` to `high` (both included), newest first unless `ascending`."""

    low: int
    high: int
    ascending: bool
    device: int | None
    boxes: tuple[Box, ...]
    cells: list[tuple[int, int]]
    budget: int = 0
    """How many rows to read in the order of time before going through the cells; 0 without shape, and afterwards."""
    by_cell: bool = False


class DayReader:
    """Reads one day's file."""

    def __init__(self, path: Path, day: int) -> None:
        """`day` is in days since the Unix epoch, UTC. Raises StoreError."""
        self._path = path
        self._midnight_ms = day * DAY_MS
        self._connection = open_reader(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def interrupt(self) -> None:
        """End the statement that runs, which then raises StoreError. May be called by any thread."""
        self._connection.interrupt()

    def events(self, account: str, query: Query, *, ascending: bool = False) -> Iterator[list[Found]]:
        """The events of this day that match, in chunks; newer chunks first (older ones with `ascending`).

        Within a chunk, and among events of the same ms across two, the order is not defined. Raises StoreError.
        """
        with store_errors(self._path):
            scan = self._scan(account, query, ascending)
            if scan is None:
                return
            shape = query.shape
            # The first chunk is what a page needs when every row matches; more is asked for each time.
            size = query.limit + 1 if shape is None else max(query.limit + 1, MIN_CHUNK_ROWS)
            if shape is not None and scan.device is None:
                scan.budget = max(MIN_BUDGET_ROWS, BUDGET_PER_RESULT * query.limit)
            while scan.low <= scan.high:
                chunk = self._chunk(scan, size)
                if chunk.rows:
                    yield [e for e in chunk.events if shape is None or shape.contains(e.lat, e.lon)]
                    if ascending:
                        scan.low = chunk.high + 1
                    else:
                        scan.high = chunk.low - 1
                if chunk.rows == size:
                    size = min(size * 2, MAX_CHUNK_ROWS)
                elif scan.budget:
                    scan.budget = 0
                    scan.by_cell = True
                else:
                    return

    def _scan(self, account: str, query: Query, ascending: bool) -> _Scan | None:
        """The range of keys and the filters; None when nothing can match."""
        row = self._connection.execute("SELECT number FROM account WHERE name = ?", (account,)).fetchone()
        if row is None:
            return None
        number = row[0] - 1
        device = None
        if query.device is not None:
            row = self._connection.execute(
                "SELECT number FROM device WHERE account = ? AND name = ?", (number, query.device)
            ).fetchone()
            if row is None:
                return None
            device = row[0]
        first_ms, last_ms = bounds_ms(query, ascending)
        first_ms = max(first_ms - self._midnight_ms, 0)
        last_ms = min(last_ms - self._midnight_ms, DAY_MS - 1)
        if first_ms > last_ms:
            return None
        base = number << ACCOUNT_SHIFT
        boxes = enclose(query.shape.boxes(), MAX_BOXES) if query.shape is not None else ()
        first = number << CELL_BITS
        cells = [(first | low, first | high) for low, high in cover(boxes)]
        low, high = base | first_ms << SEQUENCE_BITS, (base | (last_ms + 1) << SEQUENCE_BITS) - 1
        return _Scan(low, high, ascending, device, boxes, cells)

    def _chunk(self, scan: _Scan, size: int) -> Chunk:
        order = "ASC" if scan.ascending else "DESC"
        values: list[object] = []
        if scan.by_cell:
            # The keys come from the index of cells alone; SQLite keeps the best `size` of them while it reads.
            parts = " UNION ALL ".join(
                ["SELECT key FROM location INDEXED BY location_cell WHERE cell BETWEEN ? AND ?"] * len(scan.cells)
            )
            source = (
                f"(SELECT key FROM ({parts}) WHERE key BETWEEN ? AND ? ORDER BY key {order} LIMIT ?) "  # noqa: S608
                "CROSS JOIN location USING (key)"
            )
            values += [bound for span in scan.cells for bound in span]
            values += [scan.low, scan.high, size]
            inner = f"SELECT key, name, document FROM {source} JOIN device ON number = device"  # noqa: S608
        else:
            index = "NOT INDEXED" if scan.device is None else "INDEXED BY location_track"
            rows = f"location {index} WHERE key BETWEEN ? AND ?"
            values += [scan.low, scan.high]
            if scan.device is not None:
                rows += " AND device = ?"
                values.append(scan.device)
            if scan.budget:
                rows = f"(SELECT * FROM {rows} ORDER BY key {order} LIMIT {scan.budget}) WHERE true"  # noqa: S608
            if scan.boxes:
                boxes, bounds = _in_boxes(scan.boxes)
                rows += f" AND ({boxes})"
                values += bounds
            values.append(size)
            hits = f"(SELECT key, device, document FROM {rows} ORDER BY key {order} LIMIT ?)"  # noqa: S608
            inner = f"SELECT key, name, document FROM {hits} JOIN device ON number = device"  # noqa: S608
        count, low, high, documents = self._connection.execute(f"{_RESULT} ({inner})", values).fetchone()
        return Chunk(_decode(f"[{documents}]") if count else [], count, low or 0, high or 0)


def bounds_ms(query: Query, ascending: bool) -> tuple[int, int]:
    """The first and the last ms a query can still return, given its cursor."""
    first_ms = query.from_ms if query.from_ms is not None else -(1 << 62)
    last_ms = query.to_ms - 1 if query.to_ms is not None else 1 << 62
    if query.after is not None:
        if ascending:
            first_ms = max(first_ms, query.after.time)
        else:
            last_ms = min(last_ms, query.after.time)
    return first_ms, last_ms


def _in_boxes(boxes: Sequence[Box]) -> tuple[str, list[float]]:
    """A condition on `lat` and `lon`, and its values."""
    where = " OR ".join(["lon BETWEEN ? AND ? AND lat BETWEEN ? AND ?"] * len(boxes))
    return where, [value for box in boxes for value in (box.west, box.east, box.south, box.north)]
