"""Days that come and go under an index: by a clock that is wrong, by size, and again after they went."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from gateway.adapters.sqlite import day as sqlite_day
from gateway.adapters.sqlite import days as sqlite_days
from gateway.adapters.sqlite import index as sqlite_index
from gateway.adapters.sqlite.day import DayWriter
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.manifest import Manifest
from gateway.adapters.sqlite.readers import FILES_EACH, MAX_READERS
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, event
from tests.support.stores import ids, opened, pass_hours, shown, sizes, store

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


@pytest.mark.parametrize("cutoff_day", [None, -30])
async def test_a_start_in_1970_does_not_switch_retention_off(tmp_path: Path, cutoff_day: int | None) -> None:
    """Neither does a manifest in which such a start is written down."""
    clock = ManualClock()
    index = await opened(tmp_path, clock, retention_days=5)
    for age in range(6):
        await store(index, str(age), age)
    await index.keep_retention()
    await index.close()
    clock.now_ms -= NOON_MS
    index = await opened(tmp_path, clock, retention_days=5)
    pass_hours(clock, 2)
    await index.keep_retention()
    assert await ids(index) == set("012345")
    await index.close()
    manifest = Manifest(tmp_path / "manifest.json")
    manifest.load()
    assert manifest.cutoff_day == NOON_MS // DAY_MS - 5
    manifest.save(cutoff_day)
    clock.now_ms += NOON_MS + 3 * DAY_MS
    index = await opened(tmp_path, clock, retention_days=5)
    left = []
    for _ in range(6):
        left.append(len(await ids(index)))
        pass_hours(clock, 1)
        await index.keep_retention()
    assert left == [6, 5, 4, 3, 3, 3]
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
