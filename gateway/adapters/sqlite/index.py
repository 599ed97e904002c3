"""The embedded location index: one SQLite file a day of the events' own time (UTC), written by one thread.

An event is one by (account, device, id) within a day's file, over reconnects and restarts. A second copy whose time
falls on another day is a second event, as it is with daily OpenSearch indices: looking into every day for every event
would cost more than storing it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.adapters.sqlite.account_turns import AccountTurns
from gateway.adapters.sqlite.days import Days
from gateway.adapters.sqlite.readers import MAX_READERS
from gateway.adapters.sqlite.search import Part, bounds_ms
from gateway.adapters.sqlite.search_effort import Effort
from gateway.adapters.sqlite.worker_threads import WorkerThreads
from gateway.clock import Clock
from gateway.errors import DamagedStoreError, StoreError
from gateway.locations.batch import DeviceEvents, count
from gateway.locations.event import DAY_MS
from gateway.locations.narrowing import write_narrowed
from gateway.locations.outcome import Rejection
from gateway.locations.ports import Pace
from gateway.locations.query import Found, Query
from gateway.telemetry.log import Log

READERS = 2
LOOK_EVERY_S = 60.0
# Searches under way end within milliseconds; only a disk that does not answer takes longer.
CLOSE_READERS_S = 2.0

# A batch of any size takes one commit, and there is no other way to a file than to wait for it.
_PACE = Pace(calls=1, events=1 << 30, waiting=1 << 30)

T = TypeVar("T")
_log = Log("locations")


class SQLiteLocationIndex:
    """The LocationIndex port on SQLite files in `folder`; see `Days` for how long they are kept.

    Owns the task `locations-retention`. `events_ms` says how far events are from the wall clock, see `retention.look`.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        retention_days: int = 30,
        max_bytes: int = 10 << 30,
        events_ms: Callable[[], int | None] = lambda: None,
        account_max_bytes: int = 0,
        readers: int = MAX_READERS,
    ) -> None:
        self._folder = folder
        self._days = Days(folder, clock, retention_days, max_bytes, account_max_bytes, readers)
        self._events_ms = events_ms
        self._closed = False
        self._write_thread = ThreadPoolExecutor(1, "locations-write")
        self._read_threads = WorkerThreads(READERS, "locations-read")
        self._turns = AccountTurns()
        self._efforts: set[Effort] = set()
        self._retention: asyncio.Task[None] | None = None

    @property
    def pace(self) -> Pace:
        """See the port: there is one writing thread."""
        return _PACE

    async def open(self) -> None:
        """Make the folder, check the file of every day, drop what is too old. Raises StoreError, SchemaError."""
        await self._in_write_thread(self._days.open)
        self._retention = asyncio.create_task(self._keep_for_ever(), name="locations-retention")

    async def close(self) -> None:
        """Wait for what is being written, end searches, close all files. Harmless when called again."""
        if self._closed:
            return
        self._closed = True
        if self._retention is not None:
            self._retention.cancel()
        for effort in self._efforts:
            effort.cancel()
        if self._retention is not None:
            await asyncio.gather(self._retention, return_exceptions=True)
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._close))

    async def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """See the port. A day whose file cannot be written rejects its own events only."""
        events_ms = self._events_ms()
        return await self._in_write_thread(lambda: self._write(groups, events_ms))

    async def keep_retention(self) -> None:
        """Drop the days that have to go. Raises StoreError."""
        events_ms = self._events_ms()
        await self._in_write_thread(lambda: self._keep(events_ms))

    async def search(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """See the port. Cancelled, it ends what the reading thread does. Raises QueryTooWideError, too."""
        return await self._read(account, query, ascending=False)

    async def track(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """See the port."""
        return await self._read(account, replace(query, shape=None), ascending=True)

    async def latest(self, account: str, device: str) -> Found | None:
        """See the port."""
        found, _ = await self._read(account, Query(device=device, limit=1), ascending=False)
        return found[0] if found else None

    @property
    def newest_ms(self) -> int | None:
        """The beginning of the newest day that is stored, in ms since the Unix epoch; None: there is none."""
        newest = next(iter(self._days.newest_first()), None)
        return None if newest is None else newest * DAY_MS

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""
        dropped = CounterMetricFamily(
            "heiwa_locations_dropped_day_files", "Whole days dropped, by the reason.", labels=["why"]
        )
        for why in ("retention", "size"):
            dropped.add_metric([why], self._days.dropped[why])
        yield dropped
        damage = self._days.damage
        yield GaugeMetricFamily("heiwa_locations_damaged_rows", "Rows that searches left out: alarm.", damage.rows)
        yield GaugeMetricFamily("heiwa_locations_damaged_files", "Days that cannot be read whole: alarm.", damage.files)

    async def _keep_for_ever(self) -> None:
        """Look at the retention although nothing is written. What fails is tried again at the next look."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.keep_retention()
            except Exception as error:
                _log.error("retention_failed", problem=str(error))

    async def _read(self, account: str, query: Query, *, ascending: bool) -> tuple[list[Found], bool]:
        await self._turns.take(account)
        if self._closed:
            self._turns.give_back(account)
            raise StoreError(f"{self._folder} is closed")
        effort = Effort()
        self._efforts.add(effort)
        call = self._read_threads.submit(lambda: self._find(effort, account, query, ascending=ascending))
        reading = asyncio.wrap_future(call)

        def ended(_: object) -> None:
            # Not before the thread is free: a cancelled search would make room for the next one of the account.
            self._efforts.discard(effort)
            self._turns.give_back(account)
            if not reading.cancelled():
                reading.exception()

        reading.add_done_callback(ended)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            effort.cancel()
            raise

    async def _in_write_thread(self, call: Callable[[], T]) -> T:
        if self._closed:
            raise StoreError(f"{self._folder} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._write_thread, call)

    # What follows runs in the writing thread.

    def _close(self) -> None:
        self._write_thread.shutdown(wait=True)
        if not self._read_threads.stop(CLOSE_READERS_S):
            _log.warning("searches_left", problem="reading threads do not end; they only read")
        self._days.close()

    def _keep(self, events_ms: int | None) -> None:
        self._days.keep(0, events_ms)
        self._days.sweep()

    def _write(self, groups: Sequence[DeviceEvents], events_ms: int | None) -> Mapping[int, Rejection]:
        self._days.keep(count(groups), events_ms)
        if self._days.full is not None:
            raise StoreError(self._days.full)
        refusals = {account: self._days.refusal(account) for account in {group.account for group in groups}}
        rejections: dict[int, Rejection] = {}
        for day, parts in _by_day(groups, refusals, rejections).items():
            refused = self._write_day(day, [part for part, _ in parts])
            if refused:
                positions = [first + offset for part, first in parts for offset in range(len(part.events))]
                rejections.update((positions[member], rejection) for member, rejection in refused.items())
        if self._days.is_due:
            # Not before this batch is acknowledged. A closed index settles by itself.
            with contextlib.suppress(RuntimeError):
                self._write_thread.submit(self._days.settle)
        return rejections

    def _write_day(self, day: int, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        try:
            return write_narrowed(groups, lambda part: self._days.write(day, part))
        except StoreError as error:
            return dict.fromkeys(range(count(groups)), Rejection(str(error)))

    # What follows runs in the reading threads.

    def _find(self, effort: Effort, account: str, query: Query, *, ascending: bool) -> tuple[list[Found], bool]:
        first_ms, last_ms = bounds_ms(query, ascending)
        days = [
            (day, generation)
            for day, generation in self._days.newest_first().items()
            if first_ms < (day + 1) * DAY_MS and last_ms >= day * DAY_MS
        ]
        found: list[Found] = []
        for day, generation in reversed(days) if ascending else days:
            wanted = query.limit + 1 - len(found)
            found += self._find_in_day(effort, account, query, day, generation, wanted, ascending=ascending)
            if len(found) > query.limit:
                break
        return found[: query.limit], len(found) > query.limit

    def _find_in_day(
        self, effort: Effort, account: str, query: Query, day: int, generation: int, wanted: int, *, ascending: bool
    ) -> list[Found]:
        """What a day holds. One that was dropped meanwhile holds nothing, a damaged one what can be read of it."""
        path, damage = self._days.path(day), self._days.damage
        page = _Page(query, wanted, ascending=ascending)
        try:
            with self._days.readers.use(path, day, generation) as reader, effort.using(reader):
                parts = reader.events(account, query, effort, lambda key: damage.row(path, key), ascending=ascending)
                page.fill(parts)
        except DamagedStoreError as error:
            damage.file(path, str(error))
        except StoreError:
            if self._days.generation(day) == generation:
                raise
        return page.first()


def _by_day(
    groups: Sequence[DeviceEvents], refusals: Mapping[str, Rejection | None], rejections: dict[int, Rejection]
) -> dict[int, list[tuple[DeviceEvents, int]]]:
    """The groups a day, each with the position of its first event in the flattened batch.

    Those of accounts that are refused go to `rejections`.
    """
    days: dict[int, list[tuple[DeviceEvents, int]]] = {}
    position = 0
    for group in groups:
        if (refusal := refusals[group.account]) is not None:
            rejections |= dict.fromkeys(range(position, position + len(group.events)), refusal)
            position += len(group.events)
            continue
        events = group.events
        found = (events[0].time // DAY_MS,) if len(events) == 1 else {event.time // DAY_MS for event in events}
        if len(found) == 1:
            (day,) = found
            days.setdefault(day, []).append((group, position))
        else:
            for offset, event in enumerate(group.events):
                part = DeviceEvents(group.account, group.device, (event,))
                days.setdefault(event.time // DAY_MS, []).append((part, position + offset))
        position += len(group.events)
    return days


class _Page:
    """The first `wanted` events of a day after the cursor. Only parts are in the order of time, not events in them."""

    def __init__(self, query: Query, wanted: int, *, ascending: bool) -> None:
        self._sign = 1 if ascending else -1
        self._wanted = wanted
        after = query.after
        self._floor = (self._sign * after.time, after.device, after.id) if after is not None else None
        self._found: list[tuple[tuple[int, str, str], Found]] = []

    def fill(self, parts: Iterator[Part]) -> None:
        """Read on until what is wanted is final."""
        sign, floor, wanted = self._sign, self._floor, self._wanted
        for part in parts:
            keyed = [((sign * event.time, event.device, event.id), event) for event in part.events]
            self._found += [pair for pair in keyed if floor is None or pair[0] > floor]
            self._found.sort(key=lambda pair: pair[0])
            # A million events may be of one ms: all of them are read, and few of them kept.
            del self._found[wanted:]
            if len(self._found) >= wanted and self._found[wanted - 1][0][0] < sign * part.edge_ms:
                return

    def first(self) -> list[Found]:
        """What is wanted."""
        return [event for _, event in self._found]
