"""Devices that watch the next one: what they have seen is compared with what was acknowledged."""

from __future__ import annotations

from gateway.protocol.messages import Event, Subscribed
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.tally import FleetTally
from loadtest.fleet.watching import Watching
from tests.unit.loadtest.fleet.test_commander import Wire

SLOW = 2


def _watching(watchers: float = 1.0) -> tuple[Watching, list[Wire], FleetTally]:
    options = FleetOptions(urls=["ws://127.0.0.1:1/ws"], devices=3, secret="x" * 32, watchers=watchers)
    wires, tally = [Wire() for _ in range(3)], FleetTally()
    return Watching(options, wires, tally, lambda slot: slot == SLOW, 0.0), wires, tally  # type: ignore[arg-type]


def _event(time_ms: int) -> Event:
    return Event("device:x", 1, {"connected": True, "location": {"time": time_ms, "lat": 0.0, "lon": 0.0}})


def test_each_watches_the_next_one() -> None:
    watching, wires, _ = _watching()
    for slot, wire in enumerate(wires):
        watching.welcomed(slot, wire)  # type: ignore[arg-type]
    assert [wire.sent[0]["channel"] for wire in wires] == ["device:device-1", "device:device-2", "device:device-0"]
    none, wires, _ = _watching(0.0)
    none.welcomed(0, wires[0])  # type: ignore[arg-type]
    none.acked(0, 5)
    assert (wires[0].sent, none.stale()) == ([], 0)


def test_a_watcher_that_has_not_seen_the_newest_location_is_stale() -> None:
    watching, _, tally = _watching()
    watching.acked(1, 5000)
    assert watching.stale() == 1
    watching.subscribed(0, Subscribed("device:x", snapshot={"connected": True, "location": None}))
    assert watching.stale() == 1
    watching.event(0, _event(5000), 5.5)
    watching.event(0, _event(4000), 5.6)
    assert watching.stale() == 0
    watching.acked(1, 6000)
    assert watching.stale() == 1
    watching.subscribed(0, Subscribed("device:x", snapshot=_event(6000).data))
    assert watching.stale() == 0
    assert (tally.commands["watch_events"], tally.commands["watch_snapshots"]) == (2, 2)
    assert tally.watch.take()


def test_slow_readers_make_no_latency() -> None:
    watching, _, tally = _watching()
    watching.event(SLOW, _event(5000), 60.0)
    assert tally.watch.take() == ""
