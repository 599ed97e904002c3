"""One account's volume is not paid by another."""

from pathlib import Path

import pytest

from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, event
from tests.support.stores import ids, opened, sizes, store


def lot(name: str, size: int = 1000, age_days: int = 0) -> DeviceEvents:
    """About a quarter of a megabyte of events, and somewhat less."""
    time_ms = NOON_MS - age_days * DAY_MS
    return DeviceEvents(name, "d", [event(f"{time_ms}-{n}", time_ms, attributes={"p": "x" * 100}) for n in range(size)])


async def test_an_account_at_its_share_is_refused_and_costs_no_other_anything(tmp_path: Path) -> None:
    index = SQLiteLocationIndex(tmp_path, ManualClock(), account_max_bytes=400_000)
    await index.open()
    await store(index, "q", 2, account="quiet")
    assert not await index.write([lot("noisy")])
    assert not await index.write([lot("noisy", age_days=1)])
    rejections = await index.write([lot("noisy", 5, 3), DeviceEvents("quiet", "d", [event("r")]), lot("noisy", 5, 3)])
    assert sorted(rejections) == [*range(5), *range(6, 11)]
    assert {(one.code, one.poison) for one in rejections.values()} == {("account_full", False)}
    assert "locations.account_max_bytes is 400000" in rejections[0].reason
    assert await ids(index, "quiet") == {"q", "r"}
    await index.close()
    # It is known after a restart, and when a day is gone there is room again.
    index = SQLiteLocationIndex(tmp_path, ManualClock(), account_max_bytes=400_000)
    await index.open()
    assert {one.code for one in (await index.write([lot("noisy", 5)])).values()} == {"account_full"}
    index._days._forget_account_bytes(NOON_MS // DAY_MS - 1)
    index._days._drop(NOON_MS // DAY_MS - 1, 0, "size")
    assert not await index.write([lot("noisy", 5, 3)])
    await index.close()


async def test_duplicates_take_nothing_of_a_share(tmp_path: Path) -> None:
    index = SQLiteLocationIndex(tmp_path, ManualClock(), account_max_bytes=400_000)
    await index.open()
    for _ in range(5):
        assert not await index.write([lot("a")])
    await index.close()


async def test_what_an_account_takes_is_counted_about_right(tmp_path: Path) -> None:
    index = await opened(tmp_path)
    for age in range(3):
        assert not await index.write([lot("a", 3000, age), lot("b", 30, age)])
    counted = index._days._account_bytes.total()
    await index.close()
    on_disk = sum(size for name, size in sizes(tmp_path).items() if name.endswith(".db"))
    assert 0.5 * on_disk < counted < 1.5 * on_disk


async def test_when_the_newest_day_is_too_large_who_takes_most_is_refused(tmp_path: Path) -> None:
    index = await opened(tmp_path, max_bytes=1_200_000)
    assert not await index.write([lot("noisy", 4000), DeviceEvents("quiet", "d", [event("1")])])
    await index.keep_retention()
    rejections = await index.write([lot("noisy", 5), DeviceEvents("quiet", "d", [event("2")])])
    assert sorted(rejections) == [0, 1, 2, 3, 4]
    assert {one.code for one in rejections.values()} == {"account_full"}
    assert await ids(index, "quiet") == {"1", "2"}
    index._days._max_bytes = 100_000
    await index.keep_retention()
    with pytest.raises(StoreError, match=r"locations\.index_max_bytes"):
        await index.write([DeviceEvents("quiet", "d", [event("3")])])
    await index.close()


async def test_days_are_not_dropped_where_that_helps_nobody(tmp_path: Path) -> None:
    """The newest day is above the limit by itself, by one account's doing."""
    index = await opened(tmp_path)
    await store(index, "q", 2, account="quiet")
    assert not await index.write([lot("noisy", 4000)])
    index._days._max_bytes = 1_200_000
    await index.keep_retention()
    assert await ids(index, "quiet") == {"q"}
    assert {one.code for one in (await index.write([lot("noisy", 5)])).values()} == {"account_full"}
    assert not await index.write([DeviceEvents("quiet", "d", [event("r")])])
    index._days._max_bytes = 500_000
    await index.keep_retention()
    assert await ids(index, "quiet") == {"r"}
    await index.close()


async def test_a_log_does_not_count_as_size(tmp_path: Path) -> None:
    """What is in the log is in the file a moment later: without that days would go at half the size."""
    index = await opened(tmp_path)
    await store(index, "old", 2)
    for n in range(40):
        await index.write([DeviceEvents("a", f"d{n}", [event(f"{n}-{k}") for k in range(100)])])
    files = sizes(tmp_path)
    logs = sum(size for name, size in files.items() if name.endswith("-wal"))
    index._days._max_bytes = sum(files.values()) - logs // 2
    await index.keep_retention()
    assert not index._days.dropped
    await index.close()
