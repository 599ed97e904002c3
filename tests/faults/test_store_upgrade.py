"""Data folders of older versions: they are read, and what stopped older versions does not stop this one."""

import time
from datetime import date, timedelta
from pathlib import Path
from random import Random

from gateway.adapters.dead_letters import DeadLetterFile
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.locations.batch import DeviceEvents
from gateway.locations.pipeline import LocationPipeline
from gateway.locations.query import Query
from tests.support.locations import DAY_MS, NOON_MS, Changes, ManualClock, event
from tests.support.old_stores import write_day, write_spool
from tests.support.program import Program, eventually

DAY_FILE = "locations-2026-09-21.db"


async def ids(index: SQLiteLocationIndex, account: str = "a") -> set[str]:
    events, more = await index.search(account, Query(limit=1000))
    assert not more
    return {one.id for one in events}


async def test_days_of_schema_1_are_read_and_written(tmp_path: Path) -> None:
    old = [DeviceEvents("a", f"d{n}", [event(f"{n}-{k}", NOON_MS + k) for k in range(20)]) for n in range(30)]
    write_day(tmp_path / DAY_FILE, old)
    index = SQLiteLocationIndex(tmp_path, ManualClock())
    await index.open()
    assert len(await ids(index)) == 600
    # The same events again are duplicates, others are new.
    assert not await index.write([*old, DeviceEvents("a", "d1", [event("new")])])
    assert len(await ids(index)) == 601
    await index.close()
    again = SQLiteLocationIndex(tmp_path, ManualClock())
    await again.open()
    assert len(await ids(again)) == 601
    await again.close()


async def test_a_spool_of_schema_1_whose_record_an_older_index_choked_on_is_replayed(tmp_path: Path) -> None:
    bad = DeviceEvents("a", "lamp\0", [event("bad")])
    good = [DeviceEvents("a", f"d{n}", [event(f"{n}")]) for n in range(5)]
    write_spool(tmp_path / "spool.db", [*good[:3], bad], good[3:])
    clock = ManualClock()
    index, spool = SQLiteLocationIndex(tmp_path / "locations", clock), SQLiteSpool(tmp_path / "spool.db")
    await index.open()
    await spool.open()
    pipeline = LocationPipeline(index, spool, DeadLetterFile(tmp_path / "dead", clock), clock, Random(1))
    changes, remove = Changes(), spool.remove

    async def told(number: int) -> None:
        await remove(number)
        changes.tell()

    spool.remove = told  # type: ignore[method-assign]
    await pipeline.start()
    await changes.wait_for(lambda: not spool.events)
    await pipeline.stop(5)
    assert await ids(index) == {"0", "1", "2", "3", "4", "bad"}
    assert spool.events == 0
    found = await index.latest("a", "lamp\0")
    assert found is not None
    assert found.device == "lamp\0"
    await index.close()
    await spool.close()


def test_the_program_starts_on_it_and_finds_the_good_records(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    now_ms = int(time.time() * 1000)
    day = f"locations-{date(1970, 1, 1) + timedelta(days=now_ms // DAY_MS)}.db"
    write_day(folder / "locations" / day, [DeviceEvents("default", "old", [event("stored", now_ms)])])
    bad = DeviceEvents("default", "lamp\0", [event("bad", now_ms)])
    write_spool(folder / "spool.db", [bad, DeviceEvents("default", "new", [event("spooled", now_ms)])])
    for _ in range(2):
        with Program(folder) as program:
            eventually(lambda: {"stored", "spooled"} <= {found["id"] for found in program.found()}, 20)
            assert program.terminate() == 0
