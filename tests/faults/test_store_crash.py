"""Crashes: what was acknowledged before a kill or a torn write is there afterwards."""

import asyncio
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.adapters import sqlite_day
from gateway.adapters.data_folder import DataFolder
from gateway.adapters.dead_letters import DeadLetterFile
from gateway.adapters.sqlite_index import SQLiteLocationIndex
from gateway.adapters.sqlite_spool import SQLiteSpool
from gateway.errors import DataFolderError, StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Rejection
from gateway.locations.query import Query
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, event

WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.adapters.sqlite_index import SQLiteLocationIndex
from gateway.adapters.sqlite_spool import SQLiteSpool
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


async def test_events_of_one_millisecond_never_push_each_other_out(tmp_path: Path) -> None:
    """After a restart the tie-breakers of a ms start again; the rows that have them already must stay."""
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


def pass_hours(clock: ManualClock, hours: float) -> None:
    """Both clocks go on."""
    clock.now_ms += round(hours * 3_600_000)
    clock.now_s += hours * 3600


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


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


def opened_by_another_process(path: Path) -> str:
    """What it says when it opens a data folder; empty: it could."""
    other = subprocess.run(
        [sys.executable, "-c", f"from gateway.adapters.data_folder import DataFolder; DataFolder.open({str(path)!r})"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    return other.stderr


def test_a_data_folder_belongs_to_one_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data"
    folder = DataFolder.open(path)
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "lock").stat().st_mode & 0o777 == 0o600
    assert f"in use by the process {os.getpid()}" in opened_by_another_process(path)
    with pytest.raises(DataFolderError, match="in use"):
        DataFolder.open(path)
    folder.close()
    folder.close()
    DataFolder.open(path).close()


def test_a_lock_left_by_a_crash_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("99999999\n")
    DataFolder.open(tmp_path).close()


def test_a_file_is_not_a_data_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataFolderError, match="is not a folder"):
            DataFolder.open(path)


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(DataFolderError, match="/proc/heiwa cannot be written"):
        DataFolder.open("/proc/heiwa")


def test_a_lock_that_was_removed_lets_nobody_in(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    (tmp_path / "lock").unlink()
    assert "in use by the process unknown" in opened_by_another_process(tmp_path)
    with pytest.raises(DataFolderError, match="in use"):
        DataFolder.open(tmp_path)
    folder.close()
    assert opened_by_another_process(tmp_path) == ""


def test_who_locks_the_file_only_is_respected(tmp_path: Path) -> None:
    """As older versions do."""
    with (tmp_path / "lock").open("w+") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataFolderError, match="in use by the process 4711"):
            DataFolder.open(tmp_path)
    DataFolder.open(tmp_path).close()


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_folder_that_was_there_keeps_its_mode_and_it_is_said(
    tmp_path: Path, through_a_link: bool, caplog: pytest.LogCaptureFixture
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    real.chmod(0o755)
    path = tmp_path / "link" if through_a_link else real
    if through_a_link:
        path.symlink_to(real)
    DataFolder.open(path).close()
    assert real.stat().st_mode & 0o777 == 0o755
    assert [record.getMessage() for record in caplog.records] == ["data_folder_open_to_others"]
    real.chmod(0o700)
    DataFolder.open(path).close()
    assert len(caplog.records) == 1


def test_a_lock_that_is_a_link_truncates_nothing(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(DataFolderError, match="symbolic link"):
        DataFolder.open(tmp_path)
    assert (tmp_path / "precious").read_text() == "keep me"


async def test_dead_letters_do_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "dead").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        await DeadLetterFile(tmp_path / "dead", ManualClock()).append([(group(1)[0], Rejection("bad"))])
    assert names(tmp_path) == ["dead"]


async def test_all_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        DataFolder.open(tmp_path / "data").close()
        index, spool = (
            SQLiteLocationIndex(tmp_path / "data/locations", ManualClock()),
            SQLiteSpool(tmp_path / "data/s.db"),
        )
        await index.open()
        await spool.open()
        await index.write(group(1))
        await spool.append(group(1))
        await index.search("a", Query())
        await DeadLetterFile(tmp_path / "data/dead", ManualClock()).append([(group(1)[0], Rejection("bad"))])
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").rglob("*")}
        await index.close()
        await spool.close()
    finally:
        os.umask(before)
    assert modes.pop("locations") == 0o700
    assert set(modes.values()) == {0o600}, modes
    assert {"lock", "s.db", "s.db-wal", "s.db.manifest", "dead", "manifest.json"} <= set(modes)
