import pytest

from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.query import Query, parse_search, parse_track
from gateway.locations.search import SearchService
from tests.support.locations import NOON_MS, MemoryIndex, event


async def make() -> tuple[MemoryIndex, SearchService]:
    index = MemoryIndex()
    await index.write([DeviceEvents("a", "d", [event(f"{n}", NOON_MS + n) for n in range(5)])])
    return index, SearchService(index)


async def test_the_cursor_of_a_page_continues_it() -> None:
    _, service = await make()
    first = await service.search("a", parse_search({"limit": "3"}))
    assert [one.id for one in first.events] == ["4", "3", "2"]
    assert first.next is not None
    second = await service.search("a", parse_search({"limit": "3", "cursor": first.next}))
    assert [one.id for one in second.events] == ["1", "0"]
    assert second.next is None


async def test_a_track_and_its_cursor() -> None:
    _, service = await make()
    first = await service.track("a", parse_track("d", {"limit": "3"}))
    assert [one.id for one in first.events] == ["0", "1", "2"]
    assert first.next is not None
    second = await service.track("a", parse_track("d", {"limit": "3", "cursor": first.next}))
    assert [one.id for one in second.events] == ["3", "4"]
    assert second.next is None


async def test_an_exactly_full_page_is_the_last_one() -> None:
    _, service = await make()
    assert (await service.search("a", Query(limit=5))).next is None


async def test_the_latest() -> None:
    _, service = await make()
    latest = await service.latest("a", "d")
    assert latest is not None
    assert latest.id == "4"
    assert await service.latest("b", "d") is None


async def test_errors_of_the_store_come_through() -> None:
    index, service = await make()

    async def fail(account: str, query: Query) -> None:
        raise StoreError("gone")

    index.search = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(StoreError):
        await service.search("a", Query())
