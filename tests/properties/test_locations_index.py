"""The embedded index against brute force in memory: the same writes, every kind of query, pages while events arrive."""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters.sqlite import day as sqlite_day
from gateway.adapters.sqlite import fresh
from gateway.adapters.sqlite import search as sqlite_search
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.locations.batch import DeviceEvents
from gateway.locations.event import LocationEvent
from gateway.locations.geo import BoundingBox, Circle, Polygons, Shape
from gateway.locations.ports import LocationIndex
from gateway.locations.query import Found, Position, Query
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, MemoryIndex

# Few values, so that they meet: ties of time, copies of ids, points on the rims of shapes.
accounts = st.sampled_from(["a", "b", "ü"])
devices = st.sampled_from(["d1", "d2", 'd"3'])
degrees_lat = st.sampled_from([-90.0, -89.5, -10.0, -0.5, 0.0, 0.5, 10.0, 89.5, 90.0]) | st.floats(-90, 90)
degrees_lon = st.sampled_from([-180.0, -179.5, -10.0, 0.0, 0.25, 10.0, 179.5, 180.0]) | st.floats(-180, 180)
times = st.builds(
    lambda day, ms: NOON_MS + day * DAY_MS + ms, st.integers(-1, 0), st.sampled_from([0, 1, 2, 1000, 43_200_000 - 1])
)
events = st.builds(LocationEvent, st.sampled_from([f"e{n}" for n in range(12)]), times, degrees_lat, degrees_lon)


def unique_day(groups: list[DeviceEvents]) -> list[DeviceEvents]:
    """One id always has the same day: a copy on another day is another event (see the adapter)."""
    return [
        DeviceEvents(
            group.account,
            group.device,
            [LocationEvent(f"{one.id}-{one.time // DAY_MS}", one.time, one.lat, one.lon) for one in group.events],
        )
        for group in groups
    ]


batches = st.lists(
    st.builds(DeviceEvents, accounts, devices, st.lists(events, min_size=1, max_size=8)), max_size=8
).map(unique_day)
# How many rows are moved into the indices at once, and how many of a device go there by themselves.
settle_rows = st.sampled_from([1, 5, 4000])
boxes = st.builds(
    lambda west, east, lat1, lat2: BoundingBox(west, min(lat1, lat2), east, max(lat1, lat2)),
    degrees_lon,
    degrees_lon,
    degrees_lat,
    degrees_lat,
)
circles = st.builds(Circle, degrees_lat, degrees_lon, st.sampled_from([0.0, 1000.0, 1e5, 3e6, 2e7]))
rings = st.lists(st.tuples(degrees_lon, degrees_lat), min_size=3, max_size=5).map(lambda ring: (*ring, ring[0]))
polygons = st.lists(st.lists(rings, min_size=1, max_size=2).map(tuple), min_size=1, max_size=12).map(tuple)
shapes: st.SearchStrategy[Shape | None] = st.one_of(st.none(), boxes, circles, polygons.map(Polygons))
queries = st.builds(
    Query,
    shape=shapes,
    from_ms=st.none() | times,
    to_ms=st.none() | times,
    device=st.none() | devices,
    limit=st.sampled_from([1, 2, 3, 10, 1000]),
)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(batches, max_size=4),
    st.lists(st.tuples(accounts, queries), min_size=1, max_size=6),
    settle_rows,
    settle_rows,
)
def test_every_search_finds_what_brute_force_finds(
    writes: list[list[DeviceEvents]], asked: list[tuple[str, Query]], settle: int, neighbours: int
) -> None:
    with mock.patch.object(fresh, "SETTLE_ROWS", settle), mock.patch.object(fresh, "NEIGHBOURS", neighbours):
        run(compare(writes, asked))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(batches, max_size=4), st.lists(st.tuples(accounts, queries), min_size=1, max_size=6))
def test_it_does_so_where_a_millisecond_holds_two_rows_only(
    writes: list[list[DeviceEvents]], asked: list[tuple[str, Query]]
) -> None:
    """The others are displaced into later ones, as they are beyond a million."""
    with mock.patch.object(sqlite_day, "_SEQUENCE_MASK", 1):
        run(compare(writes, asked))


async def compare(writes: list[list[DeviceEvents]], asked: list[tuple[str, Query]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        index, oracle = SQLiteLocationIndex(Path(folder), ManualClock()), MemoryIndex()
        await index.open()
        for number, groups in enumerate(writes):
            assert not await index.write(groups)
            await oracle.write(groups)
            if number == 1:
                await index.close()
                index = SQLiteLocationIndex(Path(folder), ManualClock())
                await index.open()
        for account, query in asked:
            assert await index.search(account, query) == await oracle.search(account, query)
            if query.device is not None:
                assert await index.track(account, query) == await oracle.track(account, query)
                assert await index.latest(account, query.device) == await oracle.latest(account, query.device)
        assert index._days.damage.rows == 0
        await index.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(batches, st.lists(batches, max_size=6), queries, st.booleans(), settle_rows)
def test_pages_are_the_whole_without_gaps_or_copies_while_events_arrive(
    first: list[DeviceEvents], arriving: list[list[DeviceEvents]], query: Query, oldest_first: bool, settle: int
) -> None:
    async def scenario() -> None:
        with tempfile.TemporaryDirectory() as folder:
            index, oracle = SQLiteLocationIndex(Path(folder), ManualClock()), MemoryIndex()
            await index.open()
            for store in (index, oracle):
                await store.write(first)
            device = query.device if not oldest_first else query.device or "d1"
            shape = None if oldest_first else query.shape
            whole = Query(shape, query.from_ms, query.to_ms, device, 1000)

            async def ask(store: LocationIndex, query: Query) -> tuple[list[Found], bool]:
                return await (store.track("a", query) if oldest_first else store.search("a", query))

            before, _ = await ask(oracle, whole)
            walked: list[Found] = []
            after, more, late = None, True, list(arriving)
            while more:
                page, more = await ask(index, Query(shape, query.from_ms, query.to_ms, device, query.limit, after))
                assert len(page) <= query.limit
                assert page or not more
                walked += page
                if page:
                    after = Position(page[-1].time, page[-1].device, page[-1].id)
                if late:
                    groups = late.pop()
                    for store in (index, oracle):
                        await store.write(groups)
            sign = 1 if oldest_first else -1
            keys = [(sign * one.time, one.device, one.id) for one in walked]
            assert keys == sorted(set(keys))
            everything, _ = await ask(oracle, whole)
            assert [one for one in before if one not in walked] == []
            assert [one for one in walked if one not in everything] == []
            await index.close()

    with mock.patch.object(fresh, "SETTLE_ROWS", settle):
        run(scenario())


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_both_plans_of_a_shape_agree(data: st.DataObject) -> None:
    """With a budget of one row a search goes through the cells; with a large one through the rows in time."""
    settled, groups, shape = data.draw(batches), data.draw(batches), data.draw(boxes | circles)

    async def scenario() -> None:
        with tempfile.TemporaryDirectory() as folder:
            index = SQLiteLocationIndex(Path(folder), ManualClock())
            await index.open()
            await index.write(settled)
            await index.close()
            index = SQLiteLocationIndex(Path(folder), ManualClock())
            await index.open()
            await index.write(groups)
            answers = []
            for budget, chunk in ((1, 1), (1, 1000), (1000, 1), (1000, 1000)):
                with (
                    mock.patch.object(sqlite_search, "MIN_BUDGET_ROWS", budget),
                    mock.patch.object(sqlite_search, "BUDGET_PER_RESULT", 0),
                    mock.patch.object(sqlite_search, "MIN_CHUNK_ROWS", chunk),
                ):
                    answers.append(await index.search("a", Query(shape, limit=3)))
            assert answers == answers[:1] * 4
            await index.close()

    run(scenario())
