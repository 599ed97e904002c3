"""Bits that flip and files that lose their content: it is noticed, named and counted, and the rest is found."""

import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.search import DayReader
from gateway.adapters.sqlite.search_effort import Effort
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.event import DAY_MS
from gateway.locations.query import Found, Position, Query
from tests.support.locations import NOON_MS, ManualClock, event, found
from tests.support.old_stores import write_day
from tests.support.stores import ids, opened, shown, store

DAY_FILE = "locations-2026-09-21.db"


async def filled(folder: Path, rows: int = 300) -> list[Found]:
    """A folder with an index, closed; what it holds."""
    index = await opened(folder)
    events = [event(f"{n}", NOON_MS + n // 3, lat=n % 80, lon=n % 170, attributes={"n": n}) for n in range(rows)]
    await index.write([DeviceEvents("a", "d", events)])
    await index.close()
    return [found("d", one) for one in events]


async def walk(index: SQLiteLocationIndex, limit: int = 10) -> list[Found]:
    """Every page, one after the other."""
    walked: list[Found] = []
    after = None
    while True:
        events, more = await index.search("a", Query(limit=limit, after=after))
        walked += events
        if not more:
            return walked
        after = Position(events[-1].time, events[-1].device, events[-1].id)


async def refusal(index: SQLiteLocationIndex) -> str | None:
    """Open it; why that is not possible."""
    try:
        await index.open()
    except StoreError as error:
        return str(error)
    return None


def change(path: Path, sql: str, *values: object, unsafe: bool = False) -> None:
    store = sqlite3.connect(path)
    store.execute(f"PRAGMA writable_schema = {unsafe:d}")
    store.execute(sql, values)
    store.commit()
    store.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE location SET document = CAST('{' AS BLOB) WHERE id = '150'",
        "UPDATE location SET document = x'' WHERE id = '150'",
        "UPDATE location SET document = 5 WHERE id = '150'",
        "UPDATE location SET document = substr(document, 1, 20) || x'39' || substr(document, 22) WHERE id = '150'",
        "UPDATE location SET document = substr(document, 1, 30) || x'ff' || substr(document, 32) WHERE id = '150'",
        "UPDATE location SET document = (SELECT document FROM location WHERE id = '151') || x'00' WHERE id = '150'",
        "UPDATE location SET key = key + 5 * 1048576 WHERE id = '150'",
        "UPDATE location SET device = 99 WHERE id = '150'",
    ],
)
async def test_a_damaged_row_is_left_out_named_and_counted_and_no_page_stops_at_it(
    tmp_path: Path, sql: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = await filled(tmp_path)
    change(tmp_path / DAY_FILE, sql)
    index = await opened(tmp_path)
    left = await walk(index)
    assert sorted(one.id for one in left) == sorted(one.id for one in whole if one.id != "150")
    assert all(one in whole for one in left)
    assert "heiwa_locations_damaged_rows 1.0" in shown(index)
    assert [record.getMessage() for record in caplog.records].count("rows_damaged") == 1
    await walk(index)
    assert "heiwa_locations_damaged_rows 1.0" in shown(index)
    await index.close()


@pytest.mark.parametrize("value", ["NULL", "'x'", "-1", "1e300", "9223372036854775807", "x'00'"])
async def test_a_damaged_account_loses_nothing(tmp_path: Path, value: str) -> None:
    whole = await filled(tmp_path)
    index = await opened(tmp_path)
    await store(index, "theirs", account="b")
    await index.close()
    # Only a column that takes anything takes these.
    schema = "UPDATE sqlite_schema SET sql = replace(sql, 'displaced_ms INTEGER NOT NULL', 'displaced_ms BLOB')"
    change(tmp_path / DAY_FILE, schema, unsafe=True)
    change(tmp_path / DAY_FILE, f"UPDATE account SET displaced_ms = {value}, bytes = ifnull({value}, 5)")
    index = await opened(tmp_path)
    assert sorted(one.id for one in await walk(index)) == sorted(one.id for one in whole)
    assert await index.write([DeviceEvents("a", "d", [event("more")])]) == {}
    assert "more" in {one.id for one in await walk(index)}
    track, _ = await index.track("a", Query(device="d", limit=1000))
    assert len(track) == len(whole) + 1
    assert await ids(index, "b") == {"theirs"}
    await index.close()


async def test_a_device_with_another_name_is_damage(tmp_path: Path) -> None:
    await filled(tmp_path)
    change(tmp_path / DAY_FILE, "UPDATE device SET name = 'e'")
    index = await opened(tmp_path)
    assert await walk(index) == []
    assert "heiwa_locations_damaged_rows 300.0" in shown(index)
    await index.close()


@pytest.mark.parametrize("seed", range(40))
async def test_a_flipped_bit_never_stops_a_walk_and_never_changes_an_event(tmp_path: Path, seed: int) -> None:
    whole = await filled(tmp_path)
    index = await opened(tmp_path)
    await store(index, "yesterday", 1)
    await index.close()
    path = tmp_path / DAY_FILE
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    content[chance.randrange(100, len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    if (refused := await refusal(index)) is not None:
        assert DAY_FILE in refused
        await index.close()
        return
    walked = await walk(index)
    assert "yesterday" in {one.id for one in walked}
    assert all(one in whole for one in walked if one.id != "yesterday")
    await index.close()


async def test_no_flipped_bit_of_a_rows_header_is_more_than_damage(tmp_path: Path) -> None:
    """The header tells the type of each column: a bit of it makes a number of a text, or nothing at all."""
    whole = await filled(tmp_path, 30)
    path = tmp_path / DAY_FILE
    content = path.read_bytes()
    document = content.index(b'{"id":"15"')
    seen = set()
    for at in range(document - 60, document):
        for bit in range(8):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            reader = DayReader(path, NOON_MS // DAY_MS)
            keys: list[int] = []
            try:
                parts = list(reader.events("a", Query(limit=1000), Effort(), keys.append))
            except StoreError:
                seen.add("refused")
            else:
                seen.add("left out" if keys else "harmless")
                assert all(one in whole for part in parts for one in part.events)
            finally:
                reader.close()
    assert seen == {"refused", "left out", "harmless"}


async def test_damaged_rows_of_schema_1_are_left_out_where_they_show(tmp_path: Path) -> None:
    write_day(tmp_path / DAY_FILE, [DeviceEvents("a", "d", [event(f"{n}") for n in range(30)])])
    change(tmp_path / DAY_FILE, "UPDATE location SET document = CAST('{\"id\":7}' AS BLOB) WHERE id = '7'")
    index = await opened(tmp_path)
    assert {one.id for one in await walk(index)} == {str(n) for n in range(30) if n != 7}
    assert "heiwa_locations_damaged_rows 1.0" in shown(index)
    await index.close()


@pytest.mark.parametrize("size_bytes", [0, 1, 8192])
@pytest.mark.parametrize("rows", [1, 3000])
async def test_a_day_that_lost_its_content_is_damage(tmp_path: Path, size_bytes: int, rows: int) -> None:
    await filled(tmp_path, rows)
    path = tmp_path / DAY_FILE
    path.write_bytes(path.read_bytes()[:size_bytes])
    for _ in range(2):
        index = SQLiteLocationIndex(tmp_path, ManualClock())
        with pytest.raises(StoreError, match=rf"{DAY_FILE} is damaged.*move the file away"):
            await index.open()
        await index.close()
    path.unlink()
    index = await opened(tmp_path)
    await store(index, "new")
    assert await ids(index) == {"new"}
    await index.close()


async def test_a_log_that_is_missing_is_damage(tmp_path: Path) -> None:
    """As a crash leaves the files, and then somebody deletes the log."""
    index = await opened(tmp_path / "live")
    for number in range(40):
        await index.write([DeviceEvents("a", "d", [event(f"{number}-{k}") for k in range(50)])])
    await index.keep_retention()
    (tmp_path / "copy").mkdir()
    for name in (DAY_FILE, "manifest.json"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / "live" / name).read_bytes())
    await index.close()
    crashed = SQLiteLocationIndex(tmp_path / "copy", ManualClock())
    with pytest.raises(StoreError, match="is damaged"):
        await crashed.open()
    await crashed.close()


async def test_a_day_that_is_missing_is_named_and_the_others_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await filled(tmp_path, 3)
    index = await opened(tmp_path)
    await store(index, "yesterday", 1)
    await index.close()
    (tmp_path / DAY_FILE).unlink()
    for _ in range(2):
        index = await opened(tmp_path)
        assert await ids(index) == {"yesterday"}
        await index.close()
    assert [record.getMessage() for record in caplog.records].count("day_missing") == 1


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 9, b'{"pages":5}', b"[" * 100_000, b'{"a":' * 100_000])
async def test_a_damaged_manifest_stops_nothing(tmp_path: Path, content: bytes) -> None:
    await filled(tmp_path, 3)
    (tmp_path / "manifest.json").write_bytes(content)
    index = await opened(tmp_path)
    assert len(await ids(index)) == 3
    await index.close()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
async def test_a_manifest_that_is_no_file_stops_nothing(
    tmp_path: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    await filled(tmp_path, 3)
    (tmp_path / "manifest.json").unlink()
    make(tmp_path / "manifest.json")
    index = await opened(tmp_path)
    assert len(await ids(index)) == 3
    await index.close()
    assert "manifest_damaged" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    "day", ["copy-of-it", "2026-13-45", "2026-02-30", "20260921", "2026-W39-1", "2026-09-21 (1)", ""]
)
async def test_a_file_whose_name_is_no_day_is_left_alone_and_named(
    tmp_path: Path, day: str, caplog: pytest.LogCaptureFixture
) -> None:
    await filled(tmp_path, 3)
    other = tmp_path / f"locations-{day}.db"
    other.write_bytes(b"not ours")
    index = await opened(tmp_path)
    assert len(await ids(index)) == 3
    await index.keep_retention()
    await index.close()
    assert other.read_bytes() == b"not ours"
    (named,) = [record for record in caplog.records if record.getMessage() == "file_is_no_day"]
    assert vars(named)["fields"] == {"file": other.name}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (Path.mkdir, "a folder"),
        (os.mkfifo, "a pipe"),
        (
            lambda path: path.symlink_to(path.parent / "gone" / "x.db"),
            r"a symbolic link to .*/gone/x\.db, whose folder",
        ),
    ],
)
async def test_what_is_in_place_of_a_day_file_is_said(
    tmp_path: Path, make: Callable[[Path], None], kind: str, known: bool
) -> None:
    if known:
        await filled(tmp_path, 3)
        (tmp_path / DAY_FILE).unlink()
    make(tmp_path / DAY_FILE)
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    with pytest.raises(StoreError, match=rf"{DAY_FILE} is {kind}.*move it away"):
        await index.open()
    await index.close()


@pytest.mark.parametrize("size_bytes", [0, 1, 50])
async def test_a_spool_that_lost_its_content_is_said_to_be_damaged(
    tmp_path: Path, size_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spool.db"
    spool = SQLiteSpool(path)
    await spool.open()
    await spool.append([DeviceEvents("a", "d", [event("1")])])
    await spool.close()
    path.write_bytes(path.read_bytes()[:size_bytes])
    for _ in range(2):
        spool = SQLiteSpool(path)
        await spool.open()
        assert spool.events == 0
        await spool.append([DeviceEvents("a", "d", [event("2")])])
        first = await spool.oldest()
        assert first is not None
        await spool.remove(first.number)
        await spool.close()
    assert [record.getMessage() for record in caplog.records].count("spool_damaged") == 1
    assert (tmp_path / "spool.db.damaged-1").exists()


async def test_a_spool_that_was_never_used_is_not_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool.db").touch()
    for _ in range(2):
        spool = SQLiteSpool(tmp_path / "spool.db")
        await spool.open()
        await spool.close()
    assert not caplog.records


async def test_a_record_of_the_spool_that_was_changed_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is whole and says something else: only the checksum tells."""
    spool = SQLiteSpool(tmp_path / "spool.db")
    await spool.open()
    for number in range(3):
        await spool.append([DeviceEvents("a", "d", [event(f"e{number}", lat=5)])])
    await spool.close()
    change(
        tmp_path / "spool.db",
        "UPDATE record SET body = CAST(replace(CAST(body AS TEXT), ?, ?) AS BLOB) WHERE number = 2",
        '"lat":5',
        '"lat":6',
    )
    spool = SQLiteSpool(tmp_path / "spool.db")
    await spool.open()
    names, last = [], 0
    while (record := await spool.oldest(last)) is not None:
        last = record.number
        names += [one.id for group in record.groups for one in group.events]
    assert names == ["e0", "e2"]
    assert spool.events == 2
    assert [record.getMessage() for record in caplog.records] == ["record_damaged"]
    await spool.close()
