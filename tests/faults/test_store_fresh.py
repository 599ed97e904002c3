"""Rows that are stored and not in the indices of their day yet: found, one, and safe, whatever happens meanwhile."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from gateway.adapters.sqlite import audit, fresh
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.layout import INDEX_FOLDER
from gateway.locations.batch import DeviceEvents
from gateway.locations.query import Query
from tests.support.locations import DAY_MS, NOON_MS, event
from tests.support.stores import ids, opened

DAY_FILE = "locations-2026-09-21.db"


def one_each(devices: int, name: str) -> list[DeviceEvents]:
    return [DeviceEvents("a", f"d{n}", [event(name, NOON_MS + n)]) for n in range(devices)]


def rows(folder: Path, table: str) -> int:
    store = sqlite3.connect(folder / DAY_FILE)
    (found,) = store.execute(f"SELECT count(*) FROM {table}").fetchone()
    store.close()
    return int(found)


class FullDisk:
    """A connection with no room for moving rows, so many times."""

    def __init__(self, connection: sqlite3.Connection, times: int) -> None:
        self._connection = connection
        self.times = times

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str) -> sqlite3.Cursor:
        if "INTO location" in sql and self.times:
            self.times -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql)


async def number(index: SQLiteLocationIndex) -> int:
    events, more = await index.search("a", Query(limit=100_000))
    assert not more
    assert len({(one.device, one.id) for one in events}) == len(events)
    return len(events)


async def test_rows_of_many_devices_are_moved_once_they_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "SETTLE_ROWS", 100)
    index = await opened(tmp_path)
    for turn in range(5):
        assert not await index.write(one_each(30, f"{turn}"))
    # The fourth batch made them due; they were moved before the fifth was written.
    assert (rows(tmp_path, "location"), rows(tmp_path, "fresh")) == (120, 30)
    assert await number(index) == 150
    await index.close()
    assert (rows(tmp_path, "location"), rows(tmp_path, "fresh")) == (150, 0)


async def test_the_many_rows_of_a_device_need_not_be_moved(tmp_path: Path) -> None:
    index = await opened(tmp_path)
    events = [event(f"{n}", NOON_MS + n) for n in range(fresh.NEIGHBOURS)]
    assert not await index.write([DeviceEvents("a", f"d{n}", events) for n in range(3)])
    assert (rows(tmp_path, "location"), rows(tmp_path, "fresh")) == (3 * fresh.NEIGHBOURS, 0)
    await index.close()


async def test_an_event_is_one_wherever_its_first_copy_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "SETTLE_ROWS", 60)
    index = await opened(tmp_path)
    for _ in range(6):
        # Twice in a batch, fresh, moved; and by the way of many events of a device.
        assert not await index.write(one_each(30, "x") + one_each(30, "x"))
        assert not await index.write(one_each(5, "y"))
        for n in range(3):
            many = [event("y", NOON_MS + 7), *(event(f"{k}", NOON_MS) for k in range(20))]
            assert not await index.write([DeviceEvents("a", f"d{n}", many)])
        assert await number(index) == 30 + 5 + 3 * 20
    found = await index.latest("a", "d2")
    assert found is not None
    assert found.time == NOON_MS + 2
    await index.close()


async def test_what_a_crash_left_is_found_and_known_and_moved(tmp_path: Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    index = await opened(live)
    for turn in range(3):
        assert not await index.write(one_each(20, f"{turn}"))
    shutil.copytree(live, copy)
    await index.close()
    again = await opened(copy)
    assert await ids(again) == {"0", "1", "2"}
    # The same ms and the same first tie-breakers, some of the events known, and many events of one device.
    assert not await again.write(one_each(20, "2"))
    assert not await again.write([DeviceEvents("a", "d1", [event(f"m{n}", NOON_MS) for n in range(50)])])
    assert not await again.write(one_each(20, "3"))
    assert await number(again) == 60 + 50 + 20
    assert (rows(copy, "location"), rows(copy, "fresh")) == (110, 20)
    await again.close()


async def test_an_audit_counts_what_a_crash_left(tmp_path: Path) -> None:
    live, copy = tmp_path / "live" / INDEX_FOLDER, tmp_path / "copy"
    index = await opened(live)
    assert not await index.write([DeviceEvents("a", "d1", [event(f"m{n}", NOON_MS) for n in range(50)])])
    assert not await index.write(one_each(20, "x"))
    assert not await index.write([DeviceEvents("b", "d1", [event("y", NOON_MS)])])
    shutil.copytree(live, copy / INDEX_FOLDER)
    await index.close()
    kept = [("d1", f"m{n}") for n in range(50)] + [(f"d{n}", "x") for n in range(20)]
    assert sorted(audit.indexed(copy, "a")) == sorted(audit.indexed(live.parent, "a")) == sorted(kept)
    assert list(audit.indexed(copy, "b")) == [("d1", "y")]
    store = sqlite3.connect(live / DAY_FILE)
    store.execute("DROP TABLE fresh")
    store.close()
    assert sorted(audit.indexed(live.parent, "a")) == sorted(kept)


async def test_a_row_that_fits_no_index_keeps_no_other_from_it(tmp_path: Path) -> None:
    index = await opened(tmp_path)
    assert not await index.write(one_each(20, "x"))
    await index.close()
    store = sqlite3.connect(tmp_path / DAY_FILE)
    store.execute("INSERT INTO fresh SELECT key + 1, device, id, cell, lat, lon, document FROM location LIMIT 1")
    store.commit()
    store.close()
    index = await opened(tmp_path)
    assert not await index.write(one_each(20, "y"))
    await index.close()
    assert (rows(tmp_path, "location"), rows(tmp_path, "fresh")) == (40, 1)


async def test_rows_that_cannot_be_moved_stay_and_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "SETTLE_ROWS", 50)
    index = await opened(tmp_path)
    assert not await index.write(one_each(1, "first"))
    disk = FullDisk(index._days.writer(NOON_MS // DAY_MS)._connection, times=2)
    monkeypatch.setattr(index._days.writer(NOON_MS // DAY_MS)._fresh, "_connection", disk)
    for turn in range(10):
        assert not await index.write(one_each(20, f"{turn}"))
    assert disk.times == 0
    assert await number(index) == 201
    assert (rows(tmp_path, "location"), rows(tmp_path, "fresh")) == (181, 20)
    await index.close()
    assert rows(tmp_path, "location") == 201
