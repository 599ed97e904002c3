"""The LocationIndex port on OpenSearch: one index a day of the events' own time, and one of latest positions.

An event is one by (account, device, id) within a day, as in the embedded index; the first copy wins, whether it came
directly, by Firehose or from the spool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from urllib.parse import quote

from msgspec.structs import asdict, replace
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from gateway.adapters.opensearch.bulk import Bulk, Extra
from gateway.adapters.opensearch.cluster import Cluster, Finding
from gateway.adapters.opensearch.connection import Access, Connection, NoAnswerError, Response
from gateway.adapters.opensearch.definitions import REFRESH_INTERVAL_S, Names
from gateway.adapters.opensearch.metrics import BulkMetrics
from gateway.adapters.opensearch.searching import (
    BUSY_S,
    MAX_PAGE,
    PARAMETERS,
    read_one,
    read_page,
    search_body,
)
from gateway.clock import Clock
from gateway.errors import ClusterError, IndexBusyError, QueryTooWideError, UnreachableError
from gateway.locations.batch import DeviceEvents, count, items
from gateway.locations.bulk_delivery import Delivery
from gateway.locations.bulk_outcome import Answer, Silence
from gateway.locations.congestion import MAX_BATCHES, MAX_DOCUMENTS, Breaker, Way, Window
from gateway.locations.document import bulk_lines, device_id, latest_lines
from gateway.locations.event import DAY_MS
from gateway.locations.latest import LatestPositions
from gateway.locations.outcome import Rejection
from gateway.locations.packing import BULK_DOCUMENTS
from gateway.locations.ports import Pace
from gateway.locations.query import Found, Position, Query
from gateway.locations.recent import Recent
from gateway.telemetry.log import Log

# Devices wait at the door; what was not looked at by then is, before the first write.
OPEN_S = 3.0
LATEST_EVERY_S = 1.0
# Under load a refresh takes longer than its interval.
KEEP_RECENT_S = 10.0 * REFRESH_INTERVAL_S
# How many hits are examined for a shape that is a small part of its cover.
MAX_PAGES = 20
SEARCHES = 12
# More than are kept; beyond, the template is looked for once more.
MAX_DAYS = 1000

_log = Log("opensearch")


class OpenSearchLocationIndex:
    """See the module. Made and used on one running event loop; owns no task.

    `another_way`: what it does not take in time can go to a stream.
    """

    def __init__(self, access: Access, prefix: str, clock: Clock, random: Random, *, another_way: bool = False) -> None:
        self._names = Names(prefix)
        self._connection = Connection(access)
        self._clock = clock
        self._window = Window(another_way=another_way)
        self._breaker = Breaker()
        self._why = Rejection("OpenSearch was not asked yet", overflow=True)
        self._bulk = Bulk(self._connection, clock, random, self._window)
        self._bulk.seen = self._seen
        self._metrics = BulkMetrics()
        self._latest = LatestPositions()
        self._latest_s = float("-inf")
        self._recent = Recent(KEEP_RECENT_S)
        self._searches = asyncio.Semaphore(SEARCHES)
        self._checked = self._unusable = False
        self._checking = asyncio.Lock()
        # Days into which events were written, so that their indices are there.
        self._days: set[int] = set()

    @property
    def pace(self) -> Pace:
        """See the port. What is not sent to the cluster needs no place in its window."""
        if self._breaker.open:
            # What the stream delivers makes days, too.
            return Pace(MAX_BATCHES, MAX_DOCUMENTS, MAX_BATCHES * MAX_DOCUMENTS, stream=not self._unusable)
        window = self._window
        return Pace(window.batches, window.documents, window.waiting)

    @property
    def newest_ms(self) -> None:
        """Not known: days are the cluster's to keep."""
        return

    async def open(self) -> None:
        """Look whether the cluster is set up. One that does not answer is no reason not to start.

        Raises ClusterError for one that answers and cannot be used.
        """
        try:
            async with asyncio.timeout(OPEN_S):
                await self._check()
        except TimeoutError:
            _log.error("opensearch_unreachable", problem=f"it has not answered all within {OPEN_S:g} s")
        except UnreachableError as error:
            _log.error("opensearch_unreachable", problem=str(error))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See the port."""
        await self._connection.close()

    async def _check(self) -> None:
        cluster = Cluster(self._connection, self._names, 1)
        for finding in await cluster.findings():
            _raise_for(finding)
        self._checked = True

    async def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """See the port; never raises StoreError: what is not stored may go another way."""
        number = count(groups)
        self._latest.note(groups)
        began_s = self._clock.monotonic_s()
        way = self._breaker.way(began_s)
        if way is Way.NOT or not await self._may_write(groups):
            self._metrics.documents["left_alone"] += number
            return dict.fromkeys(range(number), self._why)
        delivery = await self._send(groups)
        refused = [rejection for rejection in delivery.rejections.values() if not rejection.poison]
        if refused:
            self._why = refused[0]
        was_open = self._breaker.open
        self._breaker.seen(way, len(refused), number, began_s, self._clock.monotonic_s())
        if self._breaker.open != was_open:
            self._say_breaker()
        self._note(groups, delivery)
        return delivery.rejections

    async def _may_write(self, groups: Sequence[DeviceEvents]) -> bool:
        """Into a cluster without our template nothing is written: it would guess what our fields are.

        A day is made by its first event, so the template is looked for before that, too.
        """
        days = {event.time // DAY_MS for group in groups for event in group.events}
        if self._checked and days <= self._days:
            return True
        async with self._checking:
            return (self._checked and days <= self._days) or await self._look_for_template(days)

    async def _look_for_template(self, days: set[int]) -> bool:
        try:
            if not self._checked:
                await self._check()
            else:
                _raise_for(await Cluster(self._connection, self._names, 1).template())
        except ClusterError as error:
            _log.critical("opensearch_unusable", problem=str(error))
            self._checked, self._unusable, self._why = False, True, Rejection(str(error))
        except UnreachableError as error:
            self._why = Rejection(str(error), overflow=True)
        else:
            self._unusable = False
            self._days = days | (self._days if len(self._days) < MAX_DAYS else set())
            return True
        self._breaker.trip(self._clock.monotonic_s())
        return False

    async def _send(self, groups: Sequence[DeviceEvents]) -> Delivery:
        lines = bulk_lines(self._names.prefix, groups)
        whole = Delivery()
        for first in range(0, len(lines), BULK_DOCUMENTS):
            part = await self._send_part(lines[first : first + BULK_DOCUMENTS])
            whole.rejections.update((first + position, rejection) for position, rejection in part.rejections.items())
            whole.duplicates.update(first + position for position in part.duplicates)
        return whole

    async def _send_part(self, lines: Sequence[tuple[object, object]]) -> Delivery:
        # A device that sends more often is written once: a replaced document costs the cluster more than a new one.
        now_s = self._clock.monotonic_s()
        due = now_s - self._latest_s >= LATEST_EVERY_S
        positions = self._latest.take(BULK_DOCUMENTS) if due else []
        if positions:
            self._latest_s = now_s
        extra = Extra([latest_lines(self._names.latest, *device, event) for device, event in positions])
        try:
            return await self._bulk.send(lines, extra)  # type: ignore[arg-type]
        finally:
            if not extra.taken:
                self._latest.put_back(positions)

    def _note(self, groups: Sequence[DeviceEvents], delivery: Delivery) -> None:
        """What is new in the index is found by searches of this process at once."""
        rejections, duplicates = delivery.rejections, delivery.duplicates
        outcomes = self._metrics.documents
        if rejections:
            poison = sum(rejection.poison for rejection in rejections.values())
            overflow = sum(rejection.overflow for rejection in rejections.values())
            outcomes["poison"] += poison
            outcomes["overflow"] += overflow
            outcomes["stop"] += len(rejections) - poison - overflow
        outcomes["duplicate"] += len(duplicates)
        outcomes["stored"] += count(groups) - len(rejections) - len(duplicates)
        if rejections or duplicates:
            groups = [
                DeviceEvents(group.account, group.device, (event,))
                for position, (group, event) in enumerate(items(groups))
                if position not in rejections and position not in duplicates
            ]
        self._recent.add(groups, self._clock.monotonic_s())

    def _seen(self, answer: Answer, seconds: float) -> None:
        self._metrics.seen(answer, seconds)
        flood = "cluster_block_exception"
        if (answer.status == 429 and answer.kind == flood) or any(
            item.status == 429 and item.kind == flood for item in answer.items or ()
        ):
            # A disk that is full does not empty itself within a second.
            self._breaker.trip(self._clock.monotonic_s())

    def _say_breaker(self) -> None:
        if self._breaker.open:
            _log.critical("opensearch_left_alone", problem=self._why.reason)
        else:
            _log.info("opensearch_works")

    async def search(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """See the port. Raises QueryTooWideError and IndexBusyError, too."""
        return await self._find(account, query, ascending=False)

    async def track(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """See the port."""
        return await self._find(account, replace(query, shape=None), ascending=True)

    async def latest(self, account: str, device: str) -> Found | None:
        """See the port. What came by Firehose is only in the daily indices, what came just now only in the other."""
        name = quote(device_id(account, device), safe="")
        got, (newest, _) = await asyncio.gather(
            self._ask("GET", f"/{self._names.latest}/_doc/{name}"),
            self.search(account, Query(device=device, limit=1)),
        )
        due = self._latest.get(account, device)
        found = [read_one(got), *newest, None if due is None else Found(device=device, **asdict(due))]
        return max((one for one in found if one is not None), key=lambda one: one.time, default=None)

    async def _find(self, account: str, query: Query, *, ascending: bool) -> tuple[list[Found], bool]:
        found, more = await self._find_indexed(account, query, ascending=ascending)
        recent = self._recent.matching(account, query, self._clock.monotonic_s())
        sign = 1 if ascending else -1

        def key(one: Found) -> tuple[int, str, str]:
            return sign * one.time, one.device, one.id

        known = {(one.time, one.device, one.id) for one in found}
        floor = key(_at(query.after)) if query.after is not None else None
        fresh = [
            one for one in recent if (one.time, one.device, one.id) not in known and (floor is None or key(one) > floor)
        ]
        if fresh:
            found = sorted([*found, *fresh], key=key)
        return found[: query.limit], more or len(found) > query.limit

    async def _find_indexed(self, account: str, query: Query, *, ascending: bool) -> tuple[list[Found], bool]:
        """What searches show already, a page after the other until enough of the hits are in the shape."""
        found: list[Found] = []
        after, size = query.after, query.limit + 1
        for _ in range(MAX_PAGES):
            body = search_body(account, query, after, size, ascending=ascending)
            hits = read_page(await self._ask("POST", f"/{self._names.days}/_search", body, PARAMETERS))
            shape = query.shape
            found += hits if shape is None else [one for one in hits if shape.contains(one.lat, one.lon)]
            if len(found) > query.limit:
                return found[: query.limit], True
            if len(hits) < size:
                return found, False
            after = Position(hits[-1].time, hits[-1].device, hits[-1].id)
            size = min(MAX_PAGE, max(1000, 2 * size))
        raise QueryTooWideError("too few of the events near the shape are in it; give a smaller one or a time")

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        *,
        again: bool = True,
    ) -> Response:
        try:
            async with self._searches:
                return await self._connection.request(method, path, body, query=query, compress=False)
        except NoAnswerError as error:
            if again and error.silence is Silence.BROKEN:
                # Who closes a kept connection may do so just as a request is sent on it; a search changes nothing.
                return await self._ask(method, path, body, query, again=False)
            raise IndexBusyError(f"OpenSearch: {error}", BUSY_S) from error

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""
        yield from self._metrics.collect()
        left_alone = int(self._breaker.open)
        yield GaugeMetricFamily("heiwa_opensearch_left_alone", "1: nothing but probes is sent: alarm.", left_alone)
        yield GaugeMetricFamily(
            "heiwa_opensearch_batches", "How many bulk requests may be in flight.", self._window.batches
        )
        yield GaugeMetricFamily("heiwa_opensearch_latest_due", "Latest positions not written yet.", len(self._latest))


def _raise_for(finding: Finding) -> None:
    if finding.mend and finding.needed:
        raise ClusterError(f"OpenSearch, {finding.name}: {finding.found}; {finding.mend}")


def _at(position: Position) -> Found:
    return Found(position.device, position.id, position.time, 0.0, 0.0)
