"""Searches on a real OpenSearch against brute force: shapes at poles, rims and the antimeridian, and all pages."""

import asyncio
from collections.abc import Coroutine, Iterator
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.locations.batch import DeviceEvents
from gateway.locations.event import LocationEvent
from gateway.locations.geo import BoundingBox, Circle, Polygons, Shape
from gateway.locations.query import Found, Position, Query
from loadtest.opensearch.node import Node
from tests.support.locations import DAY_MS, NOON_MS, MemoryIndex
from tests.support.opensearch import Tenants, new_prefix, shared_index

LATS = [-90.0, -89.9999999, -89.5, -10.0, -0.5, 0.0, 1e-7, 0.5, 10.0, 89.5, 90.0]
LONS = [-180.0, -179.9999999, -179.5, -10.0, 0.0, 1e-7, 0.25, 10.0, 179.5, 179.9999999, 180.0]
lat = st.sampled_from(LATS) | st.floats(-90, 90)
lon = st.sampled_from(LONS) | st.floats(-180, 180)
boxes = st.builds(lambda w, e, one, two: BoundingBox(w, min(one, two), e, max(one, two)), lon, lon, lat, lat)
circles = st.builds(Circle, lat, lon, st.sampled_from([0.0, 1.0, 55_000.0, 1e6, 9e6, 2e7]) | st.floats(0, 2e7))
rings = st.lists(st.tuples(lon, lat), min_size=3, max_size=6).map(lambda points: (*points, points[0]))
polygons = st.builds(lambda outer, inner: Polygons(((outer, inner),)), rings, rings)
shapes: st.SearchStrategy[Shape] = st.one_of(boxes, circles, polygons)
times = st.none() | st.sampled_from([NOON_MS - DAY_MS, NOON_MS - 1, NOON_MS, NOON_MS + 1, NOON_MS + DAY_MS])
queries = st.builds(
    Query,
    shape=st.none() | shapes,
    from_ms=times,
    to_ms=times,
    device=st.sampled_from([None, None, "d1", 'd"3']),
    limit=st.sampled_from([1, 3, 40, 1000]),
)
MAX_PAGES = 8
T = TypeVar("T")


def events(seed: int) -> list[DeviceEvents]:
    """Few times, so that they tie; places on rims of shapes, and some anywhere."""
    random = Random(seed)
    made: dict[str, list[LocationEvent]] = {"d1": [], "d2": [], 'd"3': []}
    for number in range(400):
        place = (
            (random.choice(LATS), random.choice(LONS))
            if number % 2
            else (random.uniform(-90, 90), random.uniform(-180, 180))
        )
        time = NOON_MS + random.choice([-DAY_MS, -1, 0, 0, 1])
        made[random.choice(list(made))].append(LocationEvent(f"e{number}", time, *place))
    return [DeviceEvents("a", device, found) for device, found in made.items()]


class Pair:
    """The index and its oracle, on one loop."""

    def __init__(self, node: Node) -> None:
        self._loop = asyncio.new_event_loop()
        self._oracle = MemoryIndex()
        self._index = self.run(self._start(node))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)

    async def _start(self, node: Node) -> Tenants:
        index = await shared_index(node.url, new_prefix(), refreshed=True)
        await index.open()
        for batch in events(1), events(1):
            assert not await index.write(batch)
            assert not await self._oracle.write(batch)
        return index

    def close(self) -> None:
        self.run(self._index.close())
        self._loop.close()

    async def compare(self, query: Query) -> None:
        """All pages of a search and of a track."""
        for call in ("search", "track") if query.device is not None else ("search",):
            asked = query
            for _ in range(MAX_PAGES):
                ours: tuple[list[Found], bool] = await getattr(self._index, call)("a", asked)
                assert ours == await getattr(self._oracle, call)("a", asked)
                if not ours[1]:
                    break
                last = ours[0][-1]
                asked = Query(
                    asked.shape,
                    asked.from_ms,
                    asked.to_ms,
                    asked.device,
                    asked.limit,
                    Position(last.time, last.device, last.id),
                )


@pytest.fixture(scope="module")
def pair(opensearch: Node) -> Iterator[Pair]:
    made = Pair(opensearch)
    yield made
    made.close()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries)
def test_every_query_is_answered_as_by_brute_force(pair: Pair, query: Query) -> None:
    pair.run(pair.compare(query))
