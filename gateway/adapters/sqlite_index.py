"""The embedded location index: one SQLite file a day of the events' own time (UTC), written by one thread.

An event is one by (account, device, id) within a day's file, over reconnects and restarts. A second copy whose time
falls on another day is a second event, as it is with daily OpenSearch indices: looking into every day for every event
would cost more than storing it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from gateway.adapters.sqlite_day import DAY_MS, DayWriter
from gateway.adapters.sqlite_file import make_folder, remove_store, store_errors
from gateway.adapters.sqlite_search import DayReader, bounds_ms
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents, count
from gateway.locations.narrowing import write_narrowed
from gateway.locations.outcome import Rejection
from gateway.locations.query import Found, Query
from gateway.ports import Clock

_EPOCH = date(1970, 1, 1)
_PATTERN = "locations-????-??-??.db"
# Late events are rarely older than a day or two; a fleet that comes back from a month offline opens files in turn.
MAX_OPEN_WRITERS = 4
READERS = 2
# How many bytes may be written between two looks at the total size.
_SIZE_CHECK_EVENTS = 50_000

T = TypeVar("T")


class SQLiteLocationIndex:
    """The LocationIndex port on SQLite files in `folder`.

    Whole days are dropped, oldest first, when they are older than `retention_days` or all files take more than
    `max_bytes`. The newest day is never dropped: when it alone exceeds the limit, writes are rejected.
    """

    def __init__(self, folder: Path, clock: Clock, retention_days: int = 30, max_bytes: int = 10 << 30) -> None:
        self._folder = folder
        self._clock = clock
        self._retention_days = retention_days
        self._max_bytes = max_bytes
        self._writers: dict[int, DayWriter] = {}
        self._days: tuple[int, ...] = ()  # newest first; replaced as a whole, read by several threads
        self._unchecked_events = 0
        self._newest_swept_day = -1
        self._full: str | None = None
        self._closed = False
        self._readers = threading.local()
        self._write_thread = ThreadPoolExecutor(1, "locations-write")
        self._read_threads = ThreadPoolExecutor(READERS, "locations-read")
        self._all_readers: list[dict[int, DayReader]] = []

    async def open(self) -> None:
        """Make the folder, check the file of every day, drop what is too old. Raises StoreError, SchemaError."""
        await self._in(self._write_thread, self._open)

    async def close(self) -> None:
        """Wait for what is under way and close all files. Harmless when called again."""
        self._closed = True
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._close))

    async def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """See the port. A day whose file cannot be written rejects its own events only."""
        return await self._in(self._write_thread, lambda: self._write(groups))

    async def search(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """See the port. Cancelled, it ends what the reading thread does."""
        return await self._read(account, query, ascending=False)

    async def track(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """See the port."""
        return await self._read(account, replace(query, shape=None), ascending=True)

    async def latest(self, account: str, device: str) -> Found | None:
        """See the port."""
        found, _ = await self._read(account, Query(device=device, limit=1), ascending=False)
        return found[0] if found else None

    async def _read(self, account: str, query: Query, *, ascending: bool) -> tuple[list[Found], bool]:
        reading = _Reading()
        try:
            return await self._in(self._read_threads, lambda: self._find(reading, account, query, ascending=ascending))
        except asyncio.CancelledError:
            reading.cancel()
            raise

    async def _in(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        if self._closed:
            raise StoreError(f"{self._folder} is closed")
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    # What follows runs in the writing thread.

    def _path(self, day: int) -> Path:
        return self._folder / f"locations-{_EPOCH + timedelta(days=day)}.db"

    def _open(self) -> None:
        make_folder(self._folder)
        with store_errors(self._folder):
            days = [(date.fromisoformat(path.stem[len("locations-") :]) - _EPOCH).days for path in self._files()]
        self._days = tuple(sorted(days, reverse=True))
        self._sweep()
        # The newest last, so that they stay open.
        for day in reversed(self._days):
            self._writer(day)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(_PATTERN))

    def _close(self) -> None:
        self._write_thread.shutdown(wait=True)
        self._read_threads.shutdown(wait=True)
        for readers in self._all_readers:
            for reader in readers.values():
                reader.close()
            readers.clear()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, day: int) -> DayWriter:
        """The open file of a day, made if missing; the least recently used one of too many is closed."""
        writer = self._writers.pop(day, None)
        if writer is None:
            if len(self._writers) >= MAX_OPEN_WRITERS:
                self._writers.pop(next(iter(self._writers))).close()
            writer = DayWriter(self._path(day), day)
        self._writers[day] = writer
        if day not in self._days:
            self._days = tuple(sorted({*self._days, day}, reverse=True))
        return writer

    def _write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        self._keep_retention(count(groups))
        if self._full is not None:
            raise StoreError(self._full)
        rejections: dict[int, Rejection] = {}
        for day, parts in _by_day(groups).items():
            refused = self._write_day(day, [part for part, _ in parts])
            if refused:
                positions = [first + offset for part, first in parts for offset in range(len(part.events))]
                rejections.update((positions[member], rejection) for member, rejection in refused.items())
        return rejections

    def _write_day(self, day: int, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        try:
            return write_narrowed(groups, lambda part: self._writer(day).write(part))
        except StoreError as error:
            return dict.fromkeys(range(count(groups)), Rejection(str(error)))

    def _keep_retention(self, events: int) -> None:
        self._unchecked_events += events
        today = self._clock.time_ms() // DAY_MS
        if self._unchecked_events >= _SIZE_CHECK_EVENTS or today > self._newest_swept_day:
            self._sweep()

    def _sweep(self) -> None:
        """Drop whole days that are too old or too much."""
        self._unchecked_events = 0
        today = self._newest_swept_day = self._clock.time_ms() // DAY_MS
        with store_errors(self._folder):
            sizes = {day: self._size(day) for day in self._days}
            total = sum(sizes.values())
            for day in reversed(self._days):
                too_much = total > self._max_bytes and day != self._days[0]
                if not too_much and day >= today - self._retention_days:
                    break
                if (writer := self._writers.pop(day, None)) is not None:
                    writer.close()
                self._days = tuple(other for other in self._days if other != day)
                remove_store(self._path(day))
                total -= sizes[day]
        self._full = None
        if total > self._max_bytes:
            self._full = f"{self._folder} takes {total} bytes for one day, more than locations.index_max_bytes"

    def _size(self, day: int) -> int:
        path = self._path(day)
        both = (path, path.with_name(path.name + "-wal"))
        return sum(file.stat().st_size for file in both if file.exists())

    # What follows runs in the reading threads.

    def _find(self, reading: _Reading, account: str, query: Query, *, ascending: bool) -> tuple[list[Found], bool]:
        first_ms, last_ms = bounds_ms(query, ascending)
        days = [day for day in self._days if first_ms < (day + 1) * DAY_MS and last_ms >= day * DAY_MS]
        found: list[Found] = []
        for day in reversed(days) if ascending else days:
            reader = self._reader(day)
            if reader is not None:
                with reading.using(reader):
                    chunks = reader.events(account, query, ascending=ascending)
                    found += _page(chunks, query, query.limit + 1 - len(found), ascending=ascending)
            if len(found) > query.limit:
                break
        return found[: query.limit], len(found) > query.limit

    def _reader(self, day: int) -> DayReader | None:
        """This thread's reader of a day; None when the day was dropped meanwhile."""
        readers: dict[int, DayReader] | None = getattr(self._readers, "open", None)
        if readers is None:
            readers = self._readers.open = {}
            self._all_readers.append(readers)
        for gone in readers.keys() - set(self._days):
            readers.pop(gone).close()
        if day not in readers:
            try:
                readers[day] = DayReader(self._path(day), day)
            except StoreError:
                if day in self._days:
                    raise
                return None
        return readers[day]


class _Reading:
    """One search under way, so that another thread can end it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: DayReader | None = None
        self._cancelled = False

    @contextmanager
    def using(self, reader: DayReader) -> Iterator[None]:
        """While this lasts, `cancel` interrupts the reader. Raises StoreError when it was cancelled before."""
        with self._lock:
            if self._cancelled:
                raise StoreError("the search was cancelled")
            self._reader = reader
        try:
            yield
        finally:
            with self._lock:
                self._reader = None

    def cancel(self) -> None:
        """End the statement under way, and start no other file's."""
        with self._lock:
            self._cancelled = True
            if self._reader is not None:
                self._reader.interrupt()


def _by_day(groups: Sequence[DeviceEvents]) -> dict[int, list[tuple[DeviceEvents, int]]]:
    """The groups a day, each with the position of its first event in the flattened batch."""
    days: dict[int, list[tuple[DeviceEvents, int]]] = {}
    position = 0
    for group in groups:
        found = {event.time // DAY_MS for event in group.events}
        if len(found) == 1:
            days.setdefault(found.pop(), []).append((group, position))
        else:
            for offset, event in enumerate(group.events):
                part = DeviceEvents(group.account, group.device, (event,))
                days.setdefault(event.time // DAY_MS, []).append((part, position + offset))
        position += len(group.events)
    return days


def _page(chunks: Iterator[list[Found]], query: Query, wanted: int, *, ascending: bool) -> list[Found]:
    """The first `wanted` events after the cursor. Reads on until the last ms is complete, since only ms are sorted."""
    sign = 1 if ascending else -1
    after = query.after
    floor = (sign * after.time, after.device, after.id) if after is not None else None
    found: list[tuple[tuple[int, str, str], Found]] = []
    for chunk in chunks:
        keyed = [((sign * event.time, event.device, event.id), event) for event in chunk]
        found += [pair for pair in keyed if floor is None or pair[0] > floor]
        found.sort(key=lambda pair: pair[0])
        # Chunks come in the order of time: once a later ms was seen, what is before it is complete.
        if len(found) > wanted and found[-1][0][0] > found[wanted - 1][0][0]:
            break
    return [event for _, event in islice(found, wanted)]
