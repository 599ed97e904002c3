"""What every Spool does, whatever it is made of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.errors import SpoolFullError
from gateway.locations.batch import DeviceEvents
from gateway.locations.ports import Spool
from tests.support.locations import MemorySpool, event


@pytest.fixture(params=["memory", "sqlite"])
async def spool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spool]:
    made: Spool = MemorySpool(max_events=100) if request.param == "memory" else SQLiteSpool(tmp_path / "s.db", 7000)
    await made.open()
    yield made
    await made.close()


def group(*names: str) -> DeviceEvents:
    return DeviceEvents("a", "d", [event(name, attributes={"k": 0.1, "big": 10**30}) for name in names])


async def test_records_come_back_oldest_first_and_as_they_were(spool: Spool) -> None:
    assert await spool.oldest() is None
    await spool.append([group("1", "2"), group("3")])
    await spool.append([group("4")])
    assert spool.events == 4
    first = await spool.oldest()
    assert first is not None
    assert list(first.groups) == [group("1", "2"), group("3")]
    second = await spool.oldest(first.number)
    assert second is not None
    assert list(second.groups) == [group("4")]
    assert await spool.oldest(second.number) is None


async def test_removing_one_leaves_the_others(spool: Spool) -> None:
    await spool.append([group("1")])
    await spool.append([group("2")])
    first = await spool.oldest()
    assert first is not None
    await spool.remove(first.number)
    await spool.remove(first.number)
    left = await spool.oldest()
    assert left is not None
    assert list(left.groups) == [group("2")]
    assert spool.events == 1
    await spool.remove(left.number)
    assert (spool.events, spool.size_bytes) == (0, 0)


async def test_a_record_may_keep_a_part(spool: Spool) -> None:
    await spool.append([group("1", "2"), group("3")])
    await spool.append([group("4")])
    first = await spool.oldest()
    assert first is not None
    await spool.keep(first.number, [group("2")])
    again = await spool.oldest()
    assert again is not None
    assert (again.number, list(again.groups)) == (first.number, [group("2")])
    assert spool.events == 2
    size_bytes = spool.size_bytes
    await spool.remove(first.number)
    await spool.append([group("2")])
    assert spool.size_bytes == size_bytes


async def test_a_record_set_aside_is_out_of_the_queue(spool: Spool) -> None:
    await spool.append([group("1")])
    await spool.append([group("2")])
    first = await spool.oldest()
    assert first is not None
    await spool.set_aside(first.number)
    left = await spool.oldest()
    assert left is not None
    assert list(left.groups) == [group("2")]
    assert spool.events == 1


async def test_numbers_are_never_used_again(spool: Spool) -> None:
    await spool.append([group("1")])
    first = await spool.oldest()
    assert first is not None
    await spool.remove(first.number)
    await spool.append([group("2")])
    second = await spool.oldest()
    assert second is not None
    assert second.number > first.number


async def test_a_full_spool_takes_nothing_of_a_batch(spool: Spool) -> None:
    with pytest.raises(SpoolFullError):
        await spool.append([group(*(str(number) for number in range(200)))])
    assert spool.events == 0
    await spool.append([group("1")])
    assert spool.events == 1


async def test_what_is_left_counts_again_after_a_restart(tmp_path: Path) -> None:
    spool = SQLiteSpool(tmp_path / "s.db", 7000)
    await spool.open()
    await spool.append([group("1", "2")])
    await spool.append([group("3")])
    held = spool.events, spool.size_bytes
    await spool.close()
    again = SQLiteSpool(tmp_path / "s.db", held[1] + 10)
    await again.open()
    try:
        assert (again.events, again.size_bytes) == held
        with pytest.raises(SpoolFullError):
            await again.append([group("4")])
    finally:
        await again.close()
