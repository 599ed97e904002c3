"""Searching the day files of the embedded location index. Blocks; a reader is used by one thread at a time.

A search returns through one row of one aggregate, because each row fetched would wait for the interpreter's lock once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from msgspec import Struct

from gateway.adapters.sqlite.day import (
    ACCOUNT_SHIFT,
    MAX_ACCOUNTS,
    MAX_DISPLACED_MS,
    SEQUENCE_BITS,
    TIME_BITS,
    find_account,
)
from gateway.adapters.sqlite.file import open_reader, store_errors
from gateway.adapters.sqlite.rows import RowReader
from gateway.locations.cells import CELL_BITS, cover
from gateway.locations.event import DAY_MS
from gateway.locations.geo import Box, Shape, enclose
from gateway.locations.query import Found, Query

# A shape that holds 1 of 50 rows or more is served by reading on in time, any other one through its cells: at most
# 1 of 50 rows of the day then, from one index. Which of both it is shows by trying.
BUDGET_PER_RESULT = 50
MIN_BUDGET_ROWS = 5000
# More rectangles than these are narrowed by the one around them: statements stay small.
MAX_BOXES = 8
MIN_CHUNK_ROWS = 200
MAX_CHUNK_ROWS = 16_000

# Rows that are compared with a shape between two looks at whether the search is still wanted.
SLICE_ROWS = 100

_RESULT = (
    "SELECT count(*), min(key), max(key), group_concat(key), group_concat(length(device_name)), "
    "group_concat(length(document)), CAST(group_concat(device_name || document, '') AS BLOB) FROM "
)


# Bytes, whatever a damaged row holds. What is missing is empty, which no checksum fits: aggregates leave NULLs out.
_NAMED = "ifnull(CAST(name AS BLOB), x'') AS device_name, ifnull(CAST(document AS BLOB), x'') AS document"


class Part(NamedTuple):
    """Some events. All that come later are of `edge_ms` or older (`ascending`: newer)."""

    events: list[Found]
    edge_ms: int


class Chunk(NamedTuple):
    """Rows in key order: how many, the keys at both ends; of each its key, its device's name, its content."""

    rows: int
    low: int
    high: int
    keys: Sequence[int] = ()
    names: Sequence[bytes] = ()
    documents: Sequence[bytes] = ()


class Spending(Protocol):
    """Who counts what a search costs, and ends it."""

    def spend(self, rows: int, steps: int) -> None:
        """Raises when it is enough."""


class _Scan(Struct):
    """What one query asks of one file: keys `low` to `high` (both included), newest first unless `ascending`."""

    low: int
    high: int
    ascending: bool
    device: int | None
    boxes: tuple[Box, ...]
    cells: list[tuple[int, int]]
    first_ms: int
    last_ms: int
    displaced_ms: int
    """How far rows may stand behind their time."""
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

    def events(
        self, account: str, query: Query, spending: Spending, damaged: Callable[[int], None], *, ascending: bool = False
    ) -> Iterator[Part]:
        """The events of this day that match, in parts; newer parts first (older ones with `ascending`).

        Within a part, and among events of the same ms across two, the order is not defined. Rows that are damaged are
        left out, and `damaged` is told the key of each. Raises StoreError, and what `spending` raises.
        """
        with store_errors(self._path):
            scan = self._scan(account, query, ascending)
            if scan is None:
                return
            rows = RowReader(account)
            shape = query.shape
            # The first chunk is what a page needs when every row matches; more is asked for each time.
            size = query.limit + 1 if shape is None else max(query.limit + 1, MIN_CHUNK_ROWS)
            if shape is not None and scan.device is None:
                scan.budget = max(MIN_BUDGET_ROWS, BUDGET_PER_RESULT * query.limit)
            while scan.low <= scan.high:
                chunk = self._chunk(scan, size)
                if chunk.rows:
                    events = _intact(scan, chunk, rows.read(chunk.names, chunk.documents), damaged)
                    edge = self._midnight_ms + (_ms(chunk.high) - scan.displaced_ms if ascending else _ms(chunk.low))
                    yield Part(_matching(events, shape, chunk.rows, spending), edge)
                    if ascending:
                        scan.low = chunk.high + 1
                    else:
                        scan.high = chunk.low - 1
                if chunk.rows == size:
                    # A chunk larger than the budget could not be full although every row is a hit.
                    size = min(size * 2, scan.budget or MAX_CHUNK_ROWS, MAX_CHUNK_ROWS)
                elif scan.budget:
                    scan.budget = 0
                    scan.by_cell = True
                else:
                    return

    def _scan(self, account: str, query: Query, ascending: bool) -> _Scan | None:
        """The range of keys and the filters; None when nothing can match."""
        row = find_account(self._connection, account)
        # An account beyond the last number has a row, but no events.
        if row is None or row[0] >= MAX_ACCOUNTS:
            return None
        number, displaced_ms = row
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
        low = base | first_ms << SEQUENCE_BITS
        high = base + (min(last_ms + displaced_ms, MAX_DISPLACED_MS) + 1 << SEQUENCE_BITS) - 1
        midnight_ms = self._midnight_ms
        return _Scan(
            low, high, ascending, device, boxes, cells, midnight_ms + first_ms, midnight_ms + last_ms, displaced_ms
        )

    def _chunk(self, scan: _Scan, size: int) -> Chunk:
        order = "ASC" if scan.ascending else "DESC"
        source, values = _by_cell(scan, order, size) if scan.by_cell else _by_time(scan, order)
        hits = f"(SELECT key, device, document FROM ({source}) ORDER BY key {order} LIMIT ?)"  # noqa: S608
        values.append(size)
        inner = f"SELECT key, {_NAMED} FROM {hits} LEFT JOIN device ON number = device"  # noqa: S608
        count, low, high, *columns = self._connection.execute(f"{_RESULT} ({inner})", values).fetchone()
        return Chunk(count, low, high, *_split(*columns)) if count else Chunk(0, 0, 0)


def _by_time(scan: _Scan, order: str) -> tuple[str, list[object]]:
    """Rows in the order of time, of both tables; and the values of the statement."""
    where, values = "key BETWEEN ? AND ?", [scan.low, scan.high]
    index = "NOT INDEXED"
    if scan.device is not None:
        index = "INDEXED BY location_track"
        where += " AND device = ?"
        values.append(scan.device)
    boxes, bounds = _in_boxes(scan.boxes)
    found = where if scan.budget or not scan.boxes else f"{where} AND {boxes}"
    taken: list[object] = [*values, *([] if found is where else bounds)]
    columns = "key, device, document, lat, lon"
    both = (
        f"SELECT {columns} FROM location {index} WHERE {found} "  # noqa: S608
        f"UNION ALL SELECT {columns} FROM fresh WHERE {found} ORDER BY key {order}"
    )
    if not scan.budget:
        return both, taken * 2
    return f"SELECT * FROM ({both} LIMIT {scan.budget}) WHERE {boxes}", [*taken * 2, *bounds]  # noqa: S608


def _by_cell(scan: _Scan, order: str, size: int) -> tuple[str, list[object]]:
    """Rows found through the index of cells alone, of which SQLite keeps the best `size` while it reads, and those that
    are in no index; and the values of the statement."""
    cells = " UNION ALL ".join(
        ["SELECT key FROM location INDEXED BY location_cell WHERE cell BETWEEN ? AND ?"] * len(scan.cells)
    )
    keys = f"SELECT key FROM ({cells}) WHERE key BETWEEN ? AND ? ORDER BY key {order} LIMIT ?"  # noqa: S608
    boxes, bounds = _in_boxes(scan.boxes)
    text = (
        f"SELECT key, device, document FROM ({keys}) CROSS JOIN location USING (key) "  # noqa: S608
        f"UNION ALL SELECT key, device, document FROM fresh WHERE key BETWEEN ? AND ? AND {boxes}"
    )
    spans: list[object] = [bound for span in scan.cells for bound in span]
    return text, [*spans, scan.low, scan.high, size, scan.low, scan.high, *bounds]


def _split(keys: str, names: str, documents: str, content: bytes) -> tuple[list[int], list[bytes], list[bytes]]:
    """The columns of a chunk: keys, and names and documents cut out of what was joined."""
    taken_names, taken_documents = [], []
    end = 0
    for name_bytes, document_bytes in zip(names.split(","), documents.split(","), strict=True):
        begin, middle = end, end + int(name_bytes)
        end = middle + int(document_bytes)
        taken_names.append(content[begin:middle])
        taken_documents.append(content[middle:end])
    return [int(key) for key in keys.split(",")], taken_names, taken_documents


def _ms(key: int) -> int:
    """The ms of the day in a key."""
    return key >> SEQUENCE_BITS & (1 << TIME_BITS) - 1


def _intact(scan: _Scan, chunk: Chunk, events: Sequence[Found | None], damaged: Callable[[int], None]) -> list[Found]:
    """The events whose rows are not damaged and whose times are asked for."""
    intact: list[Found] = []
    midnight_ms = scan.first_ms // DAY_MS * DAY_MS
    for key, event in zip(chunk.keys, events, strict=True):
        if event is None or not 0 <= _ms(key) - (event.time - midnight_ms) <= scan.displaced_ms:
            damaged(key)
        elif scan.first_ms <= event.time <= scan.last_ms:
            intact.append(event)
    return intact


def _matching(events: list[Found], shape: Shape | None, rows: int, spending: Spending) -> list[Found]:
    spending.spend(rows, 0)
    if shape is None:
        return events
    found: list[Found] = []
    for start in range(0, len(events), SLICE_ROWS):
        part = events[start : start + SLICE_ROWS]
        spending.spend(0, sum(shape.steps(event.lat) for event in part))
        found += [event for event in part if shape.contains(event.lat, event.lon)]
    return found


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
    return f"({where})", [value for box in boxes for value in (box.west, box.east, box.south, box.north)]
