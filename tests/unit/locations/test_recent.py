"""What searches do not show yet: bounded in time and number."""

from gateway.locations.batch import DeviceEvents
from gateway.locations.geo import BoundingBox
from gateway.locations.latest import MAX_DEVICES, LatestPositions
from gateway.locations.query import Query
from gateway.locations.recent import MAX_EVENTS, Recent
from tests.support.locations import NOON_MS, event


def names(recent: Recent, query: Query, now_s: float, account: str = "a") -> list[str]:
    return sorted(one.id for one in recent.matching(account, query, now_s))


def test_it_matches_as_a_search_does() -> None:
    recent = Recent(10)
    recent.add([DeviceEvents("a", "d", [event("1", lat=1), event("2", NOON_MS + 5, lat=9)])], 0)
    recent.add([DeviceEvents("a", "x", [event("3")]), DeviceEvents("b", "d", [event("4")])], 1)
    assert names(recent, Query(), 2) == ["1", "2", "3"]
    assert names(recent, Query(device="d"), 2) == ["1", "2"]
    assert names(recent, Query(from_ms=NOON_MS + 5), 2) == ["2"]
    assert names(recent, Query(to_ms=NOON_MS + 5), 2) == ["1", "3"]
    assert names(recent, Query(BoundingBox(-1, 0, 1, 2)), 2) == ["1", "3"]
    assert names(recent, Query(), 2, "b") == ["4"]
    assert names(recent, Query(), 2, "c") == []


def test_it_forgets_after_a_while() -> None:
    recent = Recent(10)
    for number in range(5):
        recent.add([DeviceEvents("a", "d", [event(str(number))])], number)
    assert names(recent, Query(), 12.5) == ["3", "4"]
    assert recent.events == 2
    assert names(recent, Query(), 100) == []


def test_it_is_bounded() -> None:
    recent = Recent(10)
    for number in range(MAX_EVENTS // 1000 + 10):
        recent.add([DeviceEvents("a", "d", [event(f"{number}-{k}") for k in range(1000)])], 0)
        assert recent.events <= MAX_EVENTS


def test_latest_positions_are_one_a_device_and_newer_ones_win() -> None:
    latest = LatestPositions()
    latest.note([DeviceEvents("a", "d", [event("2", NOON_MS + 2), event("1", NOON_MS)])])
    latest.note([DeviceEvents("a", "d", [event("0", NOON_MS - 1)]), DeviceEvents("a", "e", [event("x")])])
    taken = latest.take(1)
    assert [(key, one.id) for key, one in taken] == [(("a", "d"), "2")]
    assert len(latest) == 1
    latest.note([DeviceEvents("a", "d", [event("3", NOON_MS + 3)])])
    latest.put_back(taken)
    newest = latest.get("a", "d")
    assert newest is not None
    assert newest.id == "3"


def test_latest_positions_are_bounded() -> None:
    latest = LatestPositions()
    latest.note([DeviceEvents("a", str(number), [event("x")]) for number in range(MAX_DEVICES + 5)])
    assert len(latest) == MAX_DEVICES
    assert latest.get("a", "0") is None
