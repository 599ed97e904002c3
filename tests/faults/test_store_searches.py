"""What a search may cost, and whom it may hold up."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from gateway.adapters.sqlite import index as sqlite_index
from gateway.adapters.sqlite.search import DayReader
from gateway.errors import QueryTooWideError
from gateway.locations.batch import DeviceEvents
from gateway.locations.geo import Polygons
from gateway.locations.query import Query
from tests.support.locations import NOON_MS, event
from tests.support.stores import ids, opened, store


def rim(positions: int, share: float) -> list[tuple[float, float]]:
    """A zigzag over all latitudes: every edge has to be compared with every event."""
    ring = [(share * (-179 + 358 * n / positions), share * (89 if n % 2 else -89)) for n in range(positions)]
    return [*ring, ring[0]]


async def test_a_search_that_would_cost_too_much_is_refused_and_others_go_on(tmp_path: Path) -> None:
    index = await opened(tmp_path)
    many = [event(f"{n}", NOON_MS + n, lat=n % 80, lon=n % 170) for n in range(4000)]
    for part in range(4):
        await index.write([DeviceEvents("a", f"d{part}", many)])
    costly = Query(Polygons(((rim(4999, 1.0), rim(4999, 0.999)),)), limit=1000)
    with pytest.raises(QueryTooWideError, match="narrow it"):
        await index.search("a", costly)
    assert len((await index.search("a", Query(limit=7)))[0]) == 7
    await index.close()


async def test_an_account_has_one_search_at_a_time_and_the_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = await opened(tmp_path)
    await store(index, "1")
    await store(index, "2", account="b")
    gate, running, most = threading.Event(), [0], [0]
    original = index._find

    def slow(effort, account, query, *, ascending):  # type: ignore[no-untyped-def]
        if account == "a":
            running[0] += 1
            most[0] = max(most[0], running[0])
            gate.wait(10)
            running[0] -= 1
        return original(effort, account, query, ascending=ascending)

    monkeypatch.setattr(index, "_find", slow)
    mine = [asyncio.create_task(ids(index)) for _ in range(5)]
    assert await asyncio.wait_for(ids(index, "b"), 5) == {"2"}
    mine[0].cancel()
    mine[3].cancel()
    # The first one is cancelled, but its thread is not free yet: the next one of the account does not take the other.
    for _ in range(3):
        assert await asyncio.wait_for(ids(index, "b"), 5) == {"2"}
    gate.set()
    results = await asyncio.gather(*mine, return_exceptions=True)
    assert [one for one in results if one == {"1"}] == [{"1"}] * 3
    assert most[0] == 1
    assert index._turns._waiting == {}
    await index.close()


async def test_a_cancelled_search_ends_in_the_midst_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = await opened(tmp_path)
    await index.write([DeviceEvents("a", "d", [event(f"{n}", NOON_MS + n) for n in range(4000)])])
    began, compared = threading.Event(), [0]

    class Slow(Polygons, frozen=True, dict=True):
        def contains(self, lat: float, lon: float) -> bool:
            compared[0] += 1
            began.set()
            time.sleep(0.001)
            return False

    searching = asyncio.create_task(index.search("a", Query(Slow((([(-1, -1), (1, -1), (1, 1), (-1, -1)],),)))))
    await asyncio.to_thread(began.wait, 10)
    searching.cancel()
    await asyncio.gather(searching, return_exceptions=True)
    assert await asyncio.wait_for(ids(index, "b"), 5) == set()
    await index.close()
    assert compared[0] < 1000


async def test_close_does_not_wait_for_a_search_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_index, "CLOSE_READERS_S", 0.1)
    index = await opened(tmp_path)
    await store(index, "1")
    gate = threading.Event()
    monkeypatch.setattr(DayReader, "_scan", lambda *_: gate.wait(30))
    searching = asyncio.create_task(ids(index))
    await asyncio.sleep(0)
    began_s = time.monotonic()
    await index.close()
    assert time.monotonic() - began_s < 5
    gate.set()
    await asyncio.gather(searching, return_exceptions=True)
