"""What every LocationIndex does, whatever it is made of."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.locations.batch import DeviceEvents
from gateway.locations.event import LocationEvent
from gateway.locations.geo import BoundingBox, Circle
from gateway.locations.ports import LocationIndex
from gateway.locations.query import Found, Position, Query
from loadtest.opensearch.node import Node
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, MemoryIndex, event, found
from tests.support.opensearch import shared_index


@pytest.fixture(params=["memory", "sqlite", "opensearch", "opensearch refreshed"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LocationIndex]:
    made: LocationIndex
    if request.param == "memory":
        made = MemoryIndex()
    elif request.param == "sqlite":
        made = SQLiteLocationIndex(tmp_path, ManualClock())
    else:
        node: Node = request.getfixturevalue("opensearch")
        made = await shared_index(node.url, f"contract{os.getpid()}", refreshed="refreshed" in request.param)
    await made.open()
    yield made
    await made.close()


async def store(index: LocationIndex, device: str, *events: LocationEvent, account: str = "a") -> None:
    assert not await index.write([DeviceEvents(account, device, events)])


async def ids(index: LocationIndex, query: Query | None = None, account: str = "a") -> list[str]:
    events, _ = await index.search(account, query or Query())
    return [one.id for one in events]


async def test_an_empty_index_finds_nothing(index: LocationIndex) -> None:
    assert await index.search("a", Query()) == ([], False)
    assert await index.track("a", Query(device="d")) == ([], False)
    assert await index.latest("a", "d") is None
    assert not await index.write([])


async def test_everything_that_was_sent_comes_back_exactly(index: LocationIndex) -> None:
    full = LocationEvent(
        'i"\\d', NOON_MS, 35.689512345678901, 139.76712345678901, 3.25, -4.1, 0.1, 359.9,
        {"a": "ü\u0000\"", "b": 1.5, "c": None, "d": True, "e": 2**53, "f": 10**30},
    )  # fmt: skip
    await store(index, 'd"é\\', full)
    assert await index.search("a", Query()) == ([found('d"é\\', full)], False)
    assert await index.latest("a", 'd"é\\') == found('d"é\\', full)


@pytest.mark.parametrize(
    "name", ["lamp\0", "\0", "a\0b", '"', "\\", "\n", "[1]", '{"a":1}', "é", "\U0001f600", "x,y", "1:2"]
)
async def test_any_name_is_kept_and_found(index: LocationIndex, name: str) -> None:
    await store(index, name, event("1"), account=name)
    await store(index, name + "x", event("2"), account=name)
    await store(index, "lamp", event("3"), account="lamp")
    events, _ = await index.search(name, Query())
    assert [(one.device, one.id) for one in events] == [(name, "1"), (name + "x", "2")]
    events, _ = await index.track(name, Query(device=name))
    assert [one.id for one in events] == ["1"]


async def test_the_first_copy_wins(index: LocationIndex) -> None:
    await store(index, "d", event("1", lat=1), event("1", lat=2))
    await store(index, "d", event("1", lat=3), event("2", lat=4))
    events, _ = await index.search("a", Query())
    assert [(one.id, one.lat) for one in events] == [("1", 1.0), ("2", 4.0)]


@pytest.mark.parametrize("first", [1, 500])
@pytest.mark.parametrize("second", [1, 500])
async def test_the_first_copy_wins_in_batches_of_any_size(index: LocationIndex, first: int, second: int) -> None:
    await store(index, "d", *(event(f"e{n}", NOON_MS + n, lat=1.0) for n in range(first)))
    await store(index, "d", *(event(f"e{n}", NOON_MS + n, lat=2.0) for n in range(second)))
    events, _ = await index.search("a", Query(limit=1000))
    assert len(events) == max(first, second)
    assert all(one.lat == 1.0 for one in events if int(one.id[1:]) < first)


async def test_accounts_never_see_each_other(index: LocationIndex) -> None:
    await store(index, "d", event("1", lat=1), account="a")
    await store(index, "d", event("1", lat=2), account="b")
    for account, lat in (("a", 1.0), ("b", 2.0)):
        for query in (Query(), Query(device="d"), Query(BoundingBox(-1, -1, 1, 5)), Query(Circle(1.5, 0, 1e6))):
            events, _ = await index.search(account, query)
            assert [one.lat for one in events] == [lat]
        latest = await index.latest(account, "d")
        assert latest is not None
        assert latest.lat == lat
    assert await ids(index, account="c") == []


async def test_newest_first_then_device_then_id(index: LocationIndex) -> None:
    await store(index, "b", event("2", NOON_MS), event("1", NOON_MS), event("9", NOON_MS + 1))
    await store(index, "a", event("3", NOON_MS), event("0", NOON_MS - 1))
    assert await ids(index) == ["9", "3", "1", "2", "0"]


async def test_a_track_is_oldest_first(index: LocationIndex) -> None:
    times = (NOON_MS, NOON_MS - DAY_MS, NOON_MS + 5, NOON_MS - 2 * DAY_MS)
    await store(index, "d", *(event(str(number), time) for number, time in enumerate(times)))
    await store(index, "other", event("x"))
    events, more = await index.track("a", Query(device="d", limit=3))
    assert [one.id for one in events] == ["3", "1", "0"]
    assert more
    after = Position(events[-1].time, "d", events[-1].id)
    events, more = await index.track("a", Query(device="d", after=after))
    assert [one.id for one in events] == ["2"]
    assert not more
    events, _ = await index.track("a", Query(device="d", from_ms=NOON_MS, to_ms=NOON_MS + 5))
    assert [one.id for one in events] == ["0"]


async def test_the_latest_is_the_newest_by_its_own_time(index: LocationIndex) -> None:
    await store(index, "d", event("new", NOON_MS))
    await store(index, "d", event("old", NOON_MS - DAY_MS), event("older", NOON_MS - 1))
    latest = await index.latest("a", "d")
    assert latest is not None
    assert latest.id == "new"


async def test_from_is_inclusive_and_to_exclusive_across_days(index: LocationIndex) -> None:
    midnight = NOON_MS // DAY_MS * DAY_MS
    await store(index, "d", *(event(str(offset), midnight + offset) for offset in (-1, 0, 1)))
    assert await ids(index, Query(from_ms=midnight)) == ["1", "0"]
    assert await ids(index, Query(to_ms=midnight)) == ["-1"]
    assert await ids(index, Query(from_ms=midnight - 1, to_ms=midnight + 1)) == ["0", "-1"]


async def test_pages_neither_skip_nor_repeat_while_events_arrive(index: LocationIndex) -> None:
    for device in ("a", "b", "c"):
        await store(index, device, *(event(f"{device}{n}", NOON_MS - n // 10 * 1000) for n in range(50)))
    walked: list[Found] = []
    after = None
    arrivals = 0
    while True:
        events, more = await index.search("a", Query(limit=7, after=after))
        walked += events
        after = Position(events[-1].time, events[-1].device, events[-1].id)
        arrivals += 1
        await store(index, "0", event(f"new{arrivals}", NOON_MS + arrivals), event(f"same{arrivals}", NOON_MS))
        if not more:
            break
    assert len(walked) == 150
    assert len({(one.device, one.id) for one in walked}) == 150
    assert walked == sorted(walked, key=lambda one: (-one.time, one.device, one.id))


async def test_what_arrives_behind_the_cursor_is_on_a_later_page(index: LocationIndex) -> None:
    await store(index, "d", event("1", NOON_MS), event("2", NOON_MS - 10))
    await index.search("a", Query(limit=1))
    await store(index, "d", event("between", NOON_MS - 5))
    assert await ids(index, Query(after=Position(NOON_MS, "d", "1"))) == ["between", "2"]


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        (BoundingBox(170, -10, -170, 10), {"east", "west", "line"}),
        (BoundingBox(175, -10, 180, 10), {"east", "line"}),
        (Circle(0, 180, 500_000), {"east", "west", "line"}),
        (Circle(89, 0, 300_000), {"pole", "arctic"}),
        (BoundingBox(0, 89.5, 1, 90), {"pole"}),
    ],
)
async def test_shapes_across_the_antimeridian_and_at_the_pole(
    index: LocationIndex, shape: BoundingBox | Circle, inside: set[str]
) -> None:
    places = {
        "east": (0, 178),
        "west": (0, -178),
        "line": (0, -180),
        "pole": (90, -77),
        "arctic": (89, 180),
        "far": (0, 0),
    }
    await store(index, "d", *(event(name, lat=lat, lon=lon) for name, (lat, lon) in places.items()))
    assert set(await ids(index, Query(shape))) == inside


async def test_a_batch_of_many_devices_accounts_and_days(index: LocationIndex) -> None:
    groups = [
        DeviceEvents(
            f"account{n % 7}", f"device{n}", [event(f"{n}-{k}", NOON_MS - (k % 3) * DAY_MS - n) for k in range(11)]
        )
        for n in range(500)
    ]
    assert not await index.write(groups)
    total = 0
    for number in range(7):
        events, more = await index.search(f"account{number}", Query(limit=1000))
        assert not more
        total += len(events)
    assert total == 5500


async def test_a_cancelled_search_leaves_the_index_usable(index: LocationIndex) -> None:
    await store(index, "d", *(event(str(number), lat=number / 10) for number in range(500)))
    for _ in range(20):
        searching = asyncio.create_task(index.search("a", Query(BoundingBox(-1, -1, 1, 60), limit=1000)))
        await asyncio.sleep(0)
        searching.cancel()
        await asyncio.gather(searching, return_exceptions=True)
    assert len(await ids(index, Query(limit=1000))) == 500
