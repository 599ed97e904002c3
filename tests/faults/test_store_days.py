"""Days that come and go under an index: by a clock that is wrong, by size, and again after they went."""

import asyncio
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.adapters import sqlite_day, sqlite_days, sqlite_index
from gateway.adapters.sqlite_day import DayWriter
from gateway.adapters.sqlite_index import SQLiteLocationIndex
from gateway.adapters.sqlite_readers import FILES_EACH, MAX_READERS
from gateway.adapters.sqlite_search import DayReader
from gateway.errors import QueryTooWideError, StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.geo import Polygons
from gateway.locations.query import Query
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, event


async def opened(
    folder: Path, clock: ManualClock | None = None, retention_days: int = 30, max_bytes: int = 1 << 40
) -> SQLiteLocationIndex:
    index = SQLiteLocationIndex(folder, clock or ManualClock(), retention_days, max_bytes)
    await index.open()
    return index


async def store(index: SQLiteLocationIndex, name: str, age_days: int = 0, account: str = "a", pad: int = 0) -> None:
    attributes = {"pad": "x" * pad} if pad else None
    one = event(name, NOON_MS - age_days * DAY_MS, attributes=attributes)
    assert not await index.write([DeviceEvents(account, "d", [one])])


async def ids(index: SQLiteLocationIndex, account: str = "a") -> set[str]:
    events, more = await index.search(account, Query(limit=1000))
    assert not more
    return {one.id for one in events}


def shown(index: SQLiteLocationIndex) -> str:
    registry = CollectorRegistry()
    registry.register(index)
    return generate_latest(registry).decode()


def pass_hours(clock: ManualClock, hours: float) -> None:
    clock.now_ms += round(hours * 3_600_000)
    clock.now_s += hours * 3600


# Clocks


@pytest.mark.parametrize("days", [2, 40, 400, -40])
async def test_a_wall_clock_that_jumps_drops_nothing(tmp_path: Path, days: int) -> None:
    clock = ManualClock()
    index = await opened(tmp_path, clock)
    for age in range(6):
        await store(index, str(age), age)
    clock.now_ms += days * DAY_MS
    await store(index, "meanwhile")
    await index.keep_retention()
    clock.now_ms -= days * DAY_MS
    assert await ids(index) == {"meanwhile", *"012345"}
    await index.close()
    # Started with it, and running for less than an hour.
    clock.now_ms += days * DAY_MS
    index = await opened(tmp_path, clock)
    pass_hours(clock, 0.9)
    await store(index, "again")
    assert await ids(index) == {"meanwhile", "again", *"012345"}
    await index.close()


async def test_a_silent_fleet_still_expires_one_day_an_hour_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    index = await opened(tmp_path, clock, retention_days=5)
    for age in range(6):
        await store(index, str(age), age)
    await index.close()
    clock.now_ms += 3 * DAY_MS
    index = await opened(tmp_path, clock, retention_days=5)
    left = []
    for _ in range(6):
        left.append(len(await ids(index)))
        pass_hours(clock, 1)
        await index.keep_retention()
    assert left == [6, 5, 4, 3, 3, 3]
    said = [record.fields for record in caplog.records if record.getMessage() == "day_dropped"]  # type: ignore[attr-defined]
    assert [(one["day"], one["why"]) for one in said] == [(f"2026-09-{day}", "retention") for day in (16, 17, 18)]
    assert all(one["bytes"] > 0 for one in said)
    assert 'heiwa_locations_dropped_day_files_total{why="retention"} 3.0' in shown(index)
    await index.close()


async def test_at_start_expired_days_go_before_the_others_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk may leave no room to open them."""
    clock = ManualClock()
    index = await opened(tmp_path, clock, retention_days=2)
    await store(index, "old", 2)
    await store(index, "new")
    for _ in range(2):
        pass_hours(clock, 24)
        await index.keep_retention()
    await store(index, "late", 2)
    await index.close()
    looked_at: list[int] = []
    writer = sqlite_days.Days.writer

    def watched(days: sqlite_days.Days, day: int) -> DayWriter:
        looked_at.append(day)
        return writer(days, day)

    monkeypatch.setattr(sqlite_days.Days, "writer", watched)
    index = await opened(tmp_path, clock, retention_days=2)
    assert await ids(index) == {"new"}
    assert NOON_MS // DAY_MS - 2 not in looked_at
    await index.close()


async def test_a_log_that_a_long_read_kept_is_made_small_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_day, "CHECKPOINT_BYTES", 1 << 20)
    monkeypatch.setattr(sqlite_days, "CHECKPOINT_BYTES", 1 << 20)
    index = await opened(tmp_path)
    await store(index, "1")
    path = index._days.path(NOON_MS // DAY_MS)
    reading = sqlite3.connect(path, isolation_level=None)
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM location").fetchone()
    for age_ms in range(20):
        many = [event(f"{age_ms}-{n}", NOON_MS + age_ms, attributes={"p": "x" * 200}) for n in range(1000)]
        await index.write([DeviceEvents("a", "d", many)])
    grown = sizes(tmp_path)[f"{path.name}-wal"]
    assert grown > 4 << 20
    await index.keep_retention()
    assert sizes(tmp_path)[f"{path.name}-wal"] >= grown
    reading.close()
    await index.keep_retention()
    assert sizes(tmp_path)[f"{path.name}-wal"] < 1 << 20
    await index.close()


async def test_the_cut_off_survives_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    index = await opened(tmp_path, clock, retention_days=5)
    for age in range(6):
        await store(index, str(age), age)
    for _ in range(2):
        pass_hours(clock, 24)
        await index.keep_retention()
    assert await ids(index) == set("0123")
    await index.close()
    # Restarts do not give it another day each.
    clock.now_ms += 2 * DAY_MS
    for _ in range(5):
        index = await opened(tmp_path, clock, retention_days=5)
        assert await ids(index) == set("0123")
        await index.close()


async def test_retention_waits_while_the_clock_is_ahead_of_what_devices_say(tmp_path: Path) -> None:
    clock, events_ms = ManualClock(), [-2 * DAY_MS]
    index = SQLiteLocationIndex(tmp_path, clock, 5, events_ms=lambda: events_ms[0])
    await index.open()
    for age in range(6):
        await store(index, str(age), age)
    clock.now_ms += 2 * DAY_MS
    for _ in range(9):
        pass_hours(clock, 1)
        await index.keep_retention()
    assert len(await ids(index)) == 6
    events_ms[0] = 0
    for _ in range(9):
        pass_hours(clock, 1)
        await index.keep_retention()
    assert await ids(index) == set("012")
    await index.close()


async def test_the_retention_is_kept_by_a_task_that_survives_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_index, "LOOK_EVERY_S", 0.0)
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    looked = asyncio.Event()
    looks = 0

    async def failing() -> None:
        nonlocal looks
        looks += 1
        if looks > 2:
            looked.set()
            await asyncio.Event().wait()
        raise StoreError("the disk is gone") if looks == 1 else ZeroDivisionError("a bug")

    monkeypatch.setattr(index, "keep_retention", failing)
    await index.open()
    await asyncio.wait_for(looked.wait(), 10)
    assert [record.getMessage() for record in caplog.records] == ["retention_failed"] * 2
    await index.close()


# Generations


async def test_a_day_that_was_dropped_and_comes_again_is_the_new_one(tmp_path: Path) -> None:
    index = await opened(tmp_path, max_bytes=1 << 40)
    await store(index, "gone", 2)
    await asyncio.gather(*(ids(index, account) for account in ("a", "b", "a", "b")))
    old_file = index._days.path((NOON_MS - 2 * DAY_MS) // DAY_MS)
    await store(index, "new")
    index._days._max_bytes = 1
    await index.keep_retention()
    assert not old_file.exists()
    index._days._max_bytes = 1 << 40
    await index.keep_retention()
    await store(index, "late", 2)
    for _ in range(6):
        assert await ids(index) == {"new", "late"}
    assert 'heiwa_locations_dropped_day_files_total{why="size"} 1.0' in shown(index)
    await index.close()


async def test_nobody_keeps_the_file_of_a_dropped_day_open(tmp_path: Path) -> None:
    index = await opened(tmp_path)
    await store(index, "gone", 2)
    await store(index, "new")
    await asyncio.gather(ids(index), ids(index, "b"))
    index._days._max_bytes = 1
    await index.keep_retention()
    assert not [name for name in open_files() if str(tmp_path) in name and "deleted" in name]
    await index.close()


async def test_a_reader_in_use_while_its_day_is_dropped_is_closed_afterwards(tmp_path: Path) -> None:
    index = await opened(tmp_path)
    await store(index, "old", 2)
    await store(index, "new")
    day = NOON_MS // DAY_MS - 2
    readers, generation = index._days.readers, index._days.generation(day)
    assert generation is not None
    with readers.use(index._days.path(day), day, generation) as reader:
        index._days._max_bytes = 1
        await index.keep_retention()
        index._days._max_bytes = 1 << 40
        await index.keep_retention()
        await store(index, "late", 2)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        reader.interrupt()
    assert await ids(index) == {"new", "late"}
    await index.close()


async def test_a_search_of_a_day_that_is_dropped_under_it_goes_on(tmp_path: Path) -> None:
    index = await opened(tmp_path)
    await store(index, "gone", 2)
    await store(index, "new")
    newest_first = index._days.newest_first()
    index._days._max_bytes = 1
    await index.keep_retention()
    index._days.newest_first = lambda: newest_first  # type: ignore[method-assign]
    assert await ids(index) == {"new"}
    await index.close()


def open_files() -> list[str]:
    names = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(link.readlink()))
        except OSError:
            continue
    return names


async def test_searches_of_many_days_hold_a_bounded_number_of_files(tmp_path: Path) -> None:
    index = await opened(tmp_path)
    for age in range(30):
        await store(index, str(age), age)
    for _ in range(3):
        await asyncio.gather(ids(index), ids(index, "b"), ids(index, "c"))
        assert len(await ids(index)) == 30
    held = [name for name in open_files() if str(tmp_path) in name]
    assert len(held) <= FILES_EACH * (MAX_READERS + sqlite_days.MAX_OPEN_WRITERS)
    await index.close()
    assert not [name for name in open_files() if str(tmp_path) in name]


# Searches that cost too much


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


# Shares


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


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


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
