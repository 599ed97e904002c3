"""Loss and doubling over the stores of several gateways: in memory, and in the files that gateways leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.layout import INDEX_FOLDER, SPOOL_NAME
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.event import LocationEvent
from loadtest.results import stores, union
from loadtest.results.records import Judged
from loadtest.results.union import EventKey, StoredEvents, acked_files, data_folder

ACCOUNT = "loadtest"


def judge(gateways: Iterable[Iterable[EventKey]], acked: Iterable[EventKey], events: int = 0) -> Judged:
    held = [list(pairs) for pairs in gateways]
    told = list(acked)
    found = [StoredEvents(lambda pairs=pairs: pairs) for pairs in held]  # type: ignore[misc]
    return union.judge(found, lambda: told, events, 0)


def test_nothing_is_lost_when_all_is_stored() -> None:
    found = judge([[("a", "1"), ("a", "2")], [("b", "1")]], [("a", "1"), ("a", "2"), ("b", "1")])
    assert (found.acked, found.stored, found.lost, found.doubled, found.copies) == (3, 3, 0, 0, 0)


def test_what_is_acknowledged_and_nowhere_is_lost_and_named() -> None:
    found = judge([[("a", "1")]], [("a", "1"), ("a", "2"), ("b", "1")])
    assert found.lost == 2
    assert found.lost_ids == ["a 2", "b 1"]


def test_stored_but_not_acknowledged_is_no_fault() -> None:
    found = judge([[("a", "1"), ("a", "2")]], [("a", "1")])
    assert (found.stored, found.lost, found.doubled) == (2, 0, 0)


def test_two_rows_in_one_gateway_are_a_double_and_in_two_gateways_a_copy() -> None:
    found = judge([[("a", "1"), ("a", "1")], [("a", "1"), ("b", "1")]], [("a", "1")])
    assert (found.doubled, found.copies, found.stored) == (1, 1, 2)
    assert found.doubled_ids == ["a 1"]


def test_an_ack_that_is_told_twice_is_one_event() -> None:
    assert judge([[]], [("a", "1"), ("a", "1")]).lost == 1


def test_device_and_id_are_not_confused() -> None:
    assert judge([[("ab", "c")]], [("a", "bc")]).lost == 1


def test_several_passes_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = [[(f"d{number % 7}", str(number)) for number in range(start, 300, 2)] for start in (0, 1)]
    stored[0] += stored[0][:5] + stored[1][:6]
    acked = [(f"d{number % 7}", str(number)) for number in range(310)]
    whole = judge(stored, acked)
    monkeypatch.setattr(union, "EVENTS_A_PASS", 50)
    parts = judge(stored, acked, events=310)
    assert (whole.lost, whole.doubled, whole.copies, whole.stored) == (10, 5, 6, 300)
    assert (parts.lost, parts.doubled, parts.copies, parts.stored, parts.acked) == (10, 5, 6, 300, 310)
    assert sorted(parts.lost_ids) == sorted(whole.lost_ids)


def test_the_number_of_names_is_bounded() -> None:
    found = judge([], [("a", str(number)) for number in range(100)])
    assert (found.lost, len(found.lost_ids)) == (100, union.NAMED)


def test_acked_files_are_read_as_ranges(tmp_path: Path) -> None:
    path = tmp_path / "fleet.acked"
    whole = "loadtest\tdevice-1\trun.\t1-3,5\nother\tdevice-1\trun.\t1-9\nloadtest\tdevice-2\trun.\t7\n"
    path.write_text(f"{whole}loadtest\tdevice-2\trun.\t1")
    assert list(acked_files([path, tmp_path / "none"], ACCOUNT)()) == [
        ("device-1", "run.1"),
        ("device-1", "run.2"),
        ("device-1", "run.3"),
        ("device-1", "run.5"),
        ("device-2", "run.7"),
    ]


def events(device: str, *ids: str, days_ago: int = 0, account: str = ACCOUNT) -> DeviceEvents:
    time_ms = int(time.time() * 1000) - days_ago * 86_400_000
    return DeviceEvents(account, device, [LocationEvent(name, time_ms, 1.0, 2.0) for name in ids])


async def store(folder: Path, indexed: list[DeviceEvents], waiting: list[DeviceEvents]) -> None:
    """What a gateway leaves behind."""
    index = SQLiteLocationIndex(folder / INDEX_FOLDER, SystemClock())
    spool = SQLiteSpool(folder / SPOOL_NAME)
    await index.open()
    await spool.open()
    for group in indexed:
        await index.write([group])
    if waiting:
        await spool.append(waiting)
    await index.close()
    await spool.close()


async def test_the_files_of_gateways_are_read(tmp_path: Path) -> None:
    await store(tmp_path / "1", [events("x", "9", account="other"), events("a", "1", "2"), events("b", "1")], [])
    await store(tmp_path / "2", [events("a", "2", days_ago=1)], [events("a", "3"), events("x", "8", account="other")])
    acked = tmp_path / "acked"
    acked.write_text("loadtest\ta\t\t1-4\nloadtest\tb\t\t1\n")
    found = await stores.judge([tmp_path / "1", tmp_path / "2"], [], "", ACCOUNT, [acked], 5)
    assert (found.acked, found.stored, found.lost, found.doubled, found.copies) == (5, 4, 1, 0, 1)
    assert found.lost_ids == ["a 4"]


async def test_a_second_copy_on_another_day_is_a_double(tmp_path: Path) -> None:
    await store(tmp_path, [events("a", "1"), events("a", "1", days_ago=1)], [])
    found = await stores.judge([tmp_path], [], "", ACCOUNT, [], 0)
    assert (found.doubled, found.doubled_ids) == (1, ["a 1"])


async def test_what_is_indexed_and_still_in_the_spool_is_no_double(tmp_path: Path) -> None:
    await store(tmp_path, [events("a", "1")], [events("a", "1")])
    found = await stores.judge([tmp_path], [], "", ACCOUNT, [], 0)
    assert (found.doubled, found.stored) == (0, 1)


async def test_a_damaged_file_is_an_error_and_not_a_loss(tmp_path: Path) -> None:
    (tmp_path / "locations").mkdir()
    (tmp_path / "locations/locations-2026-01-01.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="locations-2026-01-01"):
        await asyncio.to_thread(lambda: list(data_folder(tmp_path, ACCOUNT).indexed()))


def test_a_folder_without_stores_is_empty(tmp_path: Path) -> None:
    store = data_folder(tmp_path, ACCOUNT)
    assert list(store.indexed()) == list(store.waiting()) == []


def test_reading_changes_nothing(tmp_path: Path) -> None:
    asyncio.run(store(tmp_path, [events("a", "1")], []))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.db")}
    list(data_folder(tmp_path, ACCOUNT).indexed())
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.db")}
