"""Crashes: what was acknowledged before a kill or a torn write is there afterwards."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.adapters.sqlite import day as sqlite_day
from gateway.adapters.sqlite import fresh
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.query import Query
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, event
from tests.support.stores import pass_hours

WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.locations.batch import DeviceEvents
from tests.support.locations import ManualClock, event

async def main():
    index, spool = SQLiteLocationIndex(Path(sys.argv[1]), ManualClock()), SQLiteSpool(Path(sys.argv[1]) / "spool.db")
    await index.open()
    await spool.open()
    for number in range(1000000):
        groups = [DeviceEvents("a", f"d{k}", [event(f"{number}-{n}") for n in range(5)]) for k in range(4)]
        await index.write(groups)
        await spool.append(groups)
        print(number, flush=True)

asyncio.run(main())
"""


async def test_after_kill_9_everything_acknowledged_is_there(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path), stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    acknowledged = -1
    while acknowledged < 100:
        acknowledged = int(await process.stdout.readline())
    process.kill()
    for line in (await process.stdout.read()).split():
        acknowledged = max(acknowledged, int(line))
    assert await process.wait() == -signal.SIGKILL
    index, spool = SQLiteLocationIndex(tmp_path, ManualClock()), SQLiteSpool(tmp_path / "spool.db")
    await index.open()
    await spool.open()
    for device in range(4):
        assert await walk(index, f"d{device}") >= {f"{n}-{k}" for n in range(acknowledged + 1) for k in range(5)}
    assert spool.events >= (acknowledged + 1) * 20
    await index.close()
    await spool.close()


async def walk(index: SQLiteLocationIndex, device: str) -> set[str]:
    """The ids of all events of a device, each of which must be there once."""
    events, more = await index.search("a", Query(device=device, limit=1_000_000))
    assert not more
    ids = [one.id for one in events]
    assert len(ids) == len(set(ids))
    return set(ids)


def group(number: int) -> list[DeviceEvents]:
    return [DeviceEvents("a", "d", [event(f"{number}-{k}") for k in range(5)])]


@pytest.mark.parametrize("cut", ["truncate", "garbage"])
async def test_a_torn_tail_costs_only_what_it_held(tmp_path: Path, cut: str) -> None:
    """The files as a power failure may leave them: the log ends anywhere, or in noise."""
    spool = SQLiteSpool(tmp_path / "live" / "spool.db")
    await spool.open()
    log = tmp_path / "live" / "spool.db-wal"
    ends = []
    for number in range(20):
        await spool.append(group(number))
        ends.append(log.stat().st_size)
    for size in range(0, ends[-1] + 1, ends[-1] // 23):
        copy = tmp_path / f"copy-{size}"
        copy.mkdir()
        for name in ("spool.db", "spool.db-wal"):
            shutil.copy(tmp_path / "live" / name, copy / name)
        with (copy / "spool.db-wal").open("r+b") as file:
            if cut == "truncate":
                file.truncate(size)
            else:
                file.seek(size)
                file.write(os.urandom(ends[-1] - size))
        durable = sum(end <= size for end in ends)
        if durable == 0:
            continue
        crashed = SQLiteSpool(copy / "spool.db")
        await crashed.open()
        assert crashed.events >= durable * 5
        number, last = 0, 0
        while (record := await crashed.oldest(last)) is not None:
            assert record.groups == group(number)
            number, last = number + 1, record.number
        assert number >= durable
        await crashed.close()
    await spool.close()


async def test_dedupe_survives_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        index = SQLiteLocationIndex(tmp_path, ManualClock())
        await index.open()
        assert not await index.write(group(1) + group(2) + group(1))
        await index.close()
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    assert len(await walk(index, "d")) == 10
    await index.close()


@pytest.mark.parametrize("neighbours", [0, 1000])
async def test_events_of_one_millisecond_never_push_each_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neighbours: int
) -> None:
    """After a restart the tie-breakers of a ms start again; the rows that have them already must stay."""
    monkeypatch.setattr(fresh, "NEIGHBOURS", neighbours)
    for turn in range(4):
        index = SQLiteLocationIndex(tmp_path, ManualClock())
        await index.open()
        for part in range(3):
            names = [event(f"{turn}-{part}-{n}") for n in range(500)]
            assert not await index.write([DeviceEvents("a", "d", names)])
        await index.close()
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    assert len(await walk(index, "d")) == 4 * 3 * 500
    await index.close()


async def test_a_full_millisecond_of_one_account_costs_nobody_anything(tmp_path: Path) -> None:
    """As after a million events that all have one time."""
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    assert not await index.write([DeviceEvents("a", "d", [event("first"), event("last")])])
    await index.close()
    file = tmp_path / "locations-2026-09-21.db"
    store = sqlite3.connect(file)
    store.execute("UPDATE location SET key = key | 1048575 WHERE id = 'last'")
    store.commit()
    store.close()
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    for number in range(5):
        other = DeviceEvents("b", "d", [event(f"other{number}", NOON_MS + 7)])
        assert not await index.write(
            [other, DeviceEvents("a", "d", [event(f"{number}"), event(f"then{number}", NOON_MS + 1)])]
        )
    names = {"first", "last", *"01234", *(f"then{number}" for number in range(5))}
    assert await walk(index, "d") == names
    found, _ = await index.search("a", Query(from_ms=NOON_MS, to_ms=NOON_MS + 1))
    assert {one.id for one in found} == {"first", "last", *"01234"}
    found, _ = await index.search("a", Query(from_ms=NOON_MS + 1))
    assert len(found) == 5
    found, _ = await index.search("b", Query())
    assert len(found) == 5
    await index.close()


async def test_a_track_begins_with_a_row_that_was_displaced_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_day, "_SEQUENCE_MASK", 1)
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    for later_ms in range(4):
        events = [event(f"{later_ms}-{n}", NOON_MS + later_ms) for n in (1, 2)]
        assert not await index.write([DeviceEvents("a", "d", events)])
    assert not await index.write([DeviceEvents("a", "d", [event("0-0")])])
    for limit in (1, 2, 3, 9):
        track, _ = await index.track("a", Query(device="d", limit=limit))
        assert [one.id for one in track][:3] == ["0-0", "0-1", "0-2"][:limit]
    newest = await index.latest("a", "d")
    assert newest is not None
    assert newest.time == NOON_MS + 3
    await index.close()


async def test_the_65537th_account_of_a_day_finds_nothing_and_its_events_are_dead_letters(tmp_path: Path) -> None:
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    assert not await index.write(group(1))
    file = tmp_path / "locations-2026-09-21.db"
    store = sqlite3.connect(file)
    store.execute("INSERT INTO account (number, name) VALUES (65536, 'the last')")
    store.commit()
    store.close()
    rejections = await index.write([DeviceEvents("one more", "d", [event("x")]), *group(2)])
    assert list(rejections) == [0]
    assert rejections[0].poison
    assert await index.search("one more", Query()) == ([], False)
    assert await index.latest("one more", "d") is None
    assert not await index.write([DeviceEvents("the last", "d", [event("x")])])
    assert len((await index.search("the last", Query()))[0]) == 1
    await index.close()


async def test_days_are_dropped_by_age_and_size_but_never_the_newest(tmp_path: Path) -> None:
    clock = ManualClock()
    index = SQLiteLocationIndex(tmp_path, clock, retention_days=5)
    await index.open()
    for age in range(7):
        assert not await index.write([DeviceEvents("a", "d", [event(f"{age}", NOON_MS - age * DAY_MS)])])
    assert len(await walk(index, "d")) == 7
    pass_hours(clock, 24)
    assert not await index.write([DeviceEvents("a", "d", [event("next", NOON_MS + DAY_MS)])])
    assert await walk(index, "d") == {"next", "0", "1", "2", "3", "4"}
    await index.close()
    index = SQLiteLocationIndex(tmp_path, clock, retention_days=5, max_bytes=1)
    await index.open()
    assert await walk(index, "d") == {"next"}
    assert day_files(tmp_path) == ["locations-2026-09-22.db"]
    await index.close()


async def test_one_day_larger_than_the_limit_is_kept_and_takes_no_more(tmp_path: Path) -> None:
    index = SQLiteLocationIndex(tmp_path, ManualClock(), max_bytes=1)
    await index.open()
    assert not await index.write(group(1))
    await index.close()
    index = SQLiteLocationIndex(tmp_path, ManualClock(), max_bytes=1)
    await index.open()
    with pytest.raises(StoreError, match=r"locations\.index_max_bytes"):
        await index.write(group(2))
    assert len(await walk(index, "d")) == 5
    await index.close()


async def test_closed_stores_say_so(tmp_path: Path) -> None:
    index, spool = SQLiteLocationIndex(tmp_path, ManualClock()), SQLiteSpool(tmp_path / "spool.db")
    await index.open()
    await spool.open()
    for _ in range(2):
        await index.close()
        await spool.close()
    for call in (index.search("a", Query()), index.write(group(1)), spool.append(group(1)), spool.oldest()):
        with pytest.raises(StoreError, match="is closed"):
            await call


async def test_what_cannot_be_encoded_is_poison_and_harms_no_other(tmp_path: Path) -> None:
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    names = ["good", "bad\ud800", "fine"]
    rejections = await index.write([DeviceEvents("a", "d", [event(name)]) for name in names])
    assert list(rejections) == [1]
    assert rejections[1].poison
    assert await walk(index, "d") == {"good", "fine"}
    await index.close()


async def test_more_days_than_files_kept_open(tmp_path: Path) -> None:
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    for turn in range(2):
        events = [event(f"{turn}-{age}", NOON_MS - age * DAY_MS) for age in range(12)]
        assert not await index.write([DeviceEvents("a", "d", events)])
    assert len(await walk(index, "d")) == 24
    await index.close()


async def test_more_devices_than_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_day, "MAX_CACHED_DEVICES", 3)
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    for turn in range(10):
        groups = [DeviceEvents("a", f"d{(turn + k) % 7}", [event(f"{turn}-{k}")]) for k in range(4)]
        assert not await index.write(groups)
    events, _ = await index.search("a", Query())
    assert len(events) == 40
    await index.close()


def day_files(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.db")]


async def test_a_clock_set_back_drops_nothing_and_stores_on(tmp_path: Path) -> None:
    clock = ManualClock()
    index = SQLiteLocationIndex(tmp_path, clock, retention_days=2)
    await index.open()
    assert not await index.write([DeviceEvents("a", "d", [event("1"), event("2", NOON_MS - DAY_MS)])])
    clock.now_ms -= 20 * DAY_MS
    assert not await index.write([DeviceEvents("a", "d", [event("3"), event("4", clock.now_ms)])])
    clock.now_ms += 20 * DAY_MS
    assert not await index.write([DeviceEvents("a", "d", [event("5")])])
    assert {"1", "2", "3", "5"} <= await walk(index, "d")
    await index.close()
