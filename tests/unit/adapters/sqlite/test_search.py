"""How the file of a day is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.sqlite.day import DayWriter
from gateway.adapters.sqlite.search import MIN_BUDGET_ROWS, DayReader
from gateway.locations.batch import DeviceEvents
from gateway.locations.event import DAY_MS, LocationEvent
from gateway.locations.query import parse_search

DAY = 20_000
EVENTS = 6 * MIN_BUDGET_ROWS


class Spending:
    def spend(self, rows: int, steps: int) -> None: ...


def test_what_matches_everywhere_is_read_in_the_order_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = DayWriter(tmp_path / "day.db", DAY)
    events = [LocationEvent(id=f"{number}", time=DAY * DAY_MS, lat=1.0, lon=2.0) for number in range(EVENTS)]
    for first in range(0, EVENTS, 1000):
        writer.write([DeviceEvents("acme", "lamp", events[first : first + 1000])])
    writer.close()
    ways: list[bool] = []
    read = DayReader._chunk

    def noted(self: DayReader, scan: Any, size: int) -> Any:
        ways.append(scan.by_cell)
        return read(self, scan, size)

    monkeypatch.setattr(DayReader, "_chunk", noted)
    reader = DayReader(tmp_path / "day.db", DAY)
    query = parse_search({"near": "1,2", "radius_m": "5"})
    found = [event.id for part in reader.events("acme", query, Spending(), lambda _: None) for event in part.events]
    reader.close()
    assert len(set(found)) == len(found) == EVENTS
    # Only the rest, which no full chunk follows, may be looked for in another way.
    assert len(ways) < 20
    assert not any(ways[:-1])
