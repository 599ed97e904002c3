"""An index of day files under a clock that a test moves, and what can be seen of it."""

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.locations.batch import DeviceEvents
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


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}
