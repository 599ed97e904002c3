"""Disks that are full, read-only or broken under the location stores."""

import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from gateway.adapters.dead_letters import DeadLetterFile
from gateway.adapters.sqlite.file import open_store
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.errors import SchemaError, StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Durability, Rejection
from gateway.locations.pipeline import LocationPipeline
from gateway.locations.query import Query
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, RecordingSender, event
from tests.support.old_stores import write_day, write_spool
from tests.support.packages import missing
from tests.support.stores import shown


@contextmanager
def files_limited_to(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond this: writing fails with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        missing("needs root and the mount command")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


def fill_up(folder: Path) -> Path:
    """A file that takes what is left of a disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    return ballast


def groups(first: int, number: int) -> list[DeviceEvents]:
    return [
        DeviceEvents("a", f"d{n}", [event(f"{n}-{k}", attributes={"k": "x" * 100}) for k in range(20)])
        for n in range(first, first + number)
    ]


async def found(index: SQLiteLocationIndex) -> int:
    total = 0
    for device in range(1000):
        events, _ = await index.track("a", Query(device=f"d{device}", limit=1000))
        if not events:
            break
        total += len(events)
    return total


async def fill(index: SQLiteLocationIndex, most: int = 1000) -> int:
    """Write until an event is rejected; how many groups were stored."""
    for number in range(most):
        rejections = await index.write(groups(number, 1))
        if rejections:
            assert len(rejections) == 20
            assert not any(rejection.poison for rejection in rejections.values())
            return number
    raise AssertionError("the disk never filled")


async def test_a_full_disk_rejects_and_loses_nothing_that_was_stored(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    index = SQLiteLocationIndex(small_disk / "locations", ManualClock())
    await index.open()
    stored = await fill(index)
    rejections = await index.write(groups(stored, 1))
    assert "no space left" in rejections[0].reason
    ballast.unlink()
    assert not await index.write(groups(stored, 1))
    await index.close()
    index = SQLiteLocationIndex(small_disk / "locations", ManualClock())
    await index.open()
    assert await found(index) == 20 * (stored + 1)
    await index.close()


async def test_a_start_on_a_full_disk_says_so_and_works_when_there_is_room(small_disk: Path) -> None:
    write_day(small_disk / "locations/locations-2026-09-21.db", groups(0, 5))
    write_spool(small_disk / "spool.db", groups(5, 1))
    ballast = fill_up(small_disk)
    index = SQLiteLocationIndex(small_disk / "locations", ManualClock())
    spool = SQLiteSpool(small_disk / "spool.db")
    for store in (index, spool):
        with pytest.raises(StoreError, match="no space left"):
            await store.open()
    ballast.unlink()
    await index.open()
    await spool.open()
    assert await found(index) == 100
    assert spool.events == 20
    await index.close()
    await spool.close()


async def test_a_file_that_may_not_grow_rejects_until_it_may(tmp_path: Path) -> None:
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    assert not await index.write(groups(0, 1))
    with files_limited_to(400_000):
        stored = await fill(index)
    assert stored > 0
    assert not await index.write(groups(stored, 1))
    assert await found(index) == 20 * (stored + 1)
    await index.close()


async def test_a_spool_on_a_full_disk_takes_nothing_of_a_batch(small_disk: Path) -> None:
    spool = SQLiteSpool(small_disk / "spool.db")
    await spool.open()
    taken = 0
    with pytest.raises(StoreError, match="no space left"):
        while taken < 10_000:
            await spool.append(groups(taken, 20))
            taken += 1
    assert taken > 0
    assert spool.events == taken * 400
    await spool.close()
    spool = SQLiteSpool(small_disk / "spool.db")
    await spool.open()
    assert spool.events == taken * 400
    await spool.close()


async def test_with_both_on_a_full_disk_events_are_refused_and_later_taken(small_disk: Path) -> None:
    index = SQLiteLocationIndex(small_disk / "locations", ManualClock())
    spool = SQLiteSpool(small_disk / "spool.db")
    await index.open()
    await spool.open()
    clock = ManualClock()
    pipeline = LocationPipeline(index, spool, DeadLetterFile(small_disk / "dead", clock), clock, Random(1))
    await pipeline.start()
    ballast = fill_up(small_disk)
    sender = RecordingSender()
    for group in groups(0, 20):
        sender.submit_to(pipeline, group.account, group.device, group.events)
    await sender.wait_for(lambda: sender.decided == 400)
    assert {code for _, code, _ in sender.refused} == {"storage_failed"}
    ballast.unlink()
    clock.now_s += 5
    again = RecordingSender()
    for group in groups(0, 20):
        again.submit_to(pipeline, group.account, group.device, group.events)
    await again.wait_for(lambda: again.decided == 400)
    assert {durability for _, durability in again.acknowledged} <= {Durability.INDEXED, Durability.SPOOLED}
    assert len(again.acknowledged) == 400
    await pipeline.stop(10)
    assert pipeline.conservation() == 0
    await index.close()
    await spool.close()


async def test_a_read_only_folder_is_said_to_be_one(small_disk: Path) -> None:
    index = SQLiteLocationIndex(small_disk, ManualClock())
    spool = SQLiteSpool(small_disk / "spool.db")
    make_read_only(small_disk)
    with pytest.raises(StoreError, match="cannot be written"):
        await spool.open()
    await index.open()
    rejections = await index.write(groups(0, 1))
    assert "cannot be written" in rejections[0].reason
    await index.close()
    await spool.close()
    with pytest.raises(StoreError, match="Read-only"):
        await DeadLetterFile(small_disk / "dead", ManualClock()).append([(groups(0, 1)[0], Rejection("x"))])


@pytest.mark.parametrize("damage", [b"not a database at all" * 500, b""])
async def test_a_damaged_day_is_named(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    assert not await index.write(groups(0, 50))
    await index.close()
    file = tmp_path / "locations-2026-09-21.db"
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    if damage:
        file.write_bytes(damage)
        with pytest.raises(StoreError, match=rf"{file.name} is damaged.*move the file away"):
            await index.open()
    else:
        content = file.read_bytes()
        file.write_bytes(content[:16384] + os.urandom(len(content) - 16384))
        await index.open()
        # A search takes what can be read, and the other days; the log says what could not.
        assert not await index.write([DeviceEvents("a", "d", [event("y", NOON_MS - DAY_MS)])])
        found, _ = await index.search("a", Query())
        assert found[-1].id == "y"
        (said,) = [record for record in caplog.records if record.getMessage() == "day_damaged"]
        assert f"{file.name} is damaged" in said.fields["problem"]  # type: ignore[attr-defined]
        assert "heiwa_locations_damaged_files 1.0" in shown(index)
        assert "damaged" in (await index.write(groups(0, 1)))[0].reason
        # The other days go on.
        assert not await index.write([DeviceEvents("a", "d", [event("x", NOON_MS - DAY_MS)])])
    await index.close()


def test_the_log_of_a_file_with_other_pages_grows_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old = sqlite3.connect(path, isolation_level=None)
    old.executescript(
        "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; CREATE TABLE t (x); PRAGMA user_version = 1;"
    )
    old.close()
    opened = open_store(path, "", 1, checkpoint_bytes=1 << 20, cache_bytes=1 << 20)
    pages, page_bytes = (opened.execute(f"PRAGMA {name}").fetchone()[0] for name in ("wal_autocheckpoint", "page_size"))
    opened.close()
    assert (pages * page_bytes, page_bytes) == (1 << 20, 16384)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "locations-2026-09-21.db"
    open_store(path, "CREATE TABLE t (x);", 99, checkpoint_bytes=1 << 20, cache_bytes=1 << 20).close()
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    with pytest.raises(SchemaError, match="schema 99, this version knows 3"):
        await index.open()
    await index.close()
    spool = SQLiteSpool(path)
    with pytest.raises(SchemaError):
        await spool.open()
    await spool.close()


async def test_a_damaged_spool_keeps_what_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool.db"
    spool = SQLiteSpool(path)
    await spool.open()
    for number in range(200):
        await spool.append(groups(number, 2))
    await spool.close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 8192 * 8192
    content[middle : middle + 8192 * 3] = os.urandom(8192 * 3)
    path.write_bytes(content)
    spool = SQLiteSpool(path)
    await spool.open()
    numbers, last = [], 0
    while (record := await spool.oldest(last)) is not None:
        last = record.number
        assert record.groups == groups(record.number - 1, 2)
        numbers.append(record.number)
    assert len(numbers) > 150
    assert numbers[0] == 1
    assert numbers[-1] == 200
    assert "damaged" in caplog.text
    await spool.close()


async def test_something_else_in_place_of_the_spool_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"something else" * 1000)
    spool = SQLiteSpool(path)
    await spool.open()
    assert spool.events == 0
    await spool.append(groups(0, 1))
    await spool.close()
    assert (tmp_path / "spool.db.damaged-1").read_bytes() == b"something else" * 1000


async def test_a_dead_letter_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    letters = DeadLetterFile(path, ManualClock())
    await letters.append([(DeviceEvents("a", "d", [event("1")]), Rejection("bad"))])
    path.write_bytes(path.read_bytes() + b'{"time":17')
    await letters.append([(DeviceEvents("a", "d", [event("2"), event("3")]), Rejection("bad"))])
    lines = path.read_text().splitlines()
    assert len(lines) == 4
    assert [is_json(line) for line in lines] == [True, False, True, True]


def is_json(line: str) -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        return bool(connection.execute("SELECT json_valid(?)", (line,)).fetchone()[0])
    finally:
        connection.close()
