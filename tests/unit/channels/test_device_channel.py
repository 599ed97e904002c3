"""`device:<id>`: a snapshot, then each newer state; for the account's own devices only."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest

from gateway.channels.channel import Channel, device_channel
from gateway.channels.device_channel import DeviceChannel
from gateway.channels.device_state import DeviceState, Position, merged
from gateway.connections.connection import Connection
from gateway.errors import StoreError
from gateway.locations.event import LocationEvent
from gateway.locations.query import Found
from tests.support.bench import Bench, device
from tests.support.channels import FakeSubscriber, Hall

DOG = "device:dog-1"


class Places:
    """The index: where devices were."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Found] = {}
        self.down = False
        self.asked = asyncio.Event()
        self.asked.set()

    async def latest(self, account: str, name: str) -> Found | None:
        await self.asked.wait()
        if self.down:
            raise StoreError("it is down")
        return self.found.get((account, name))


class Meadow(Hall):
    """Dogs with collars, and who watches them."""

    def __init__(self, maximum: int = 100) -> None:
        super().__init__(maximum)
        self.bench = Bench()
        self.places = Places()
        self.devices = DeviceChannel(self.bench.hub.registry, self.places, self.fanout)

    def connect(self, name: str = "dog-1", account: str = "acme") -> Connection:
        connection, _ = self.bench.open(device(name, account))
        self.devices.connection_changed(account, name, connection.slot)
        return connection

    def lose(self, connection: Connection) -> None:
        connection.connection_lost(None)
        self.devices.connection_changed(connection.account_name, connection.device, connection.slot)

    def move(self, time: int, lat: float = 1.0, account: str = "acme") -> None:
        self.devices.moved(account, "dog-1", [LocationEvent("e", time, lat, 2.0, speed=1.5)])

    async def watch(self, slot: int = 0, account: str = "acme", name: str = DOG) -> FakeSubscriber:
        subscriber = self.join(slot, account)
        self.subscribing.subscribe(subscriber, name, None)
        await self.settle()
        return subscriber


def _data(heard: list[Any]) -> list[Any]:
    return [message.get("data", message.get("snapshot", message.get("code"))) for message in heard]


async def test_a_snapshot_comes_first_and_then_what_happens() -> None:
    meadow = Meadow()
    connection = meadow.connect()
    meadow.places.found["acme", "dog-1"] = Found("dog-1", "e", 5, 1.0, 2.0, accuracy=3.0)
    owner = await meadow.watch()
    at_first = {"time": 5, "lat": 1.0, "lon": 2.0, "accuracy": 3.0}
    assert owner.hear() == [
        {"type": "subscribed", "channel": DOG, "snapshot": {"connected": True, "location": at_first}}
    ]
    meadow.move(6, lat=1.5)
    then = {"time": 6, "lat": 1.5, "lon": 2.0, "speed": 1.5}
    assert owner.hear() == [
        {
            "type": "event",
            "channel": DOG,
            "time": meadow.clock.time_ms(),
            "data": {"connected": True, "location": then},
        }
    ]
    meadow.lose(connection)
    assert _data(owner.hear()) == [{"connected": False, "location": then}]


async def test_what_is_old_is_not_told() -> None:
    meadow = Meadow()
    meadow.connect()
    owner = await meadow.watch()
    meadow.move(9)
    owner.hear()
    meadow.move(8)
    meadow.move(9)
    meadow.devices.connection_changed("acme", "dog-1", 0)
    assert owner.hear() == []


async def test_what_happens_while_the_index_is_asked_is_in_the_snapshot() -> None:
    meadow = Meadow()
    meadow.connect()
    meadow.places.found["acme", "dog-1"] = Found("dog-1", "e", 5, 1.0, 2.0)
    meadow.places.asked.clear()
    owner = meadow.join(0)
    meadow.subscribing.subscribe(owner, DOG, None)
    await asyncio.sleep(0)
    meadow.move(7, lat=7.0)
    assert owner.hear() == []
    meadow.places.asked.set()
    await meadow.settle()
    (snapshot,) = _data(owner.hear())
    assert snapshot["location"]["lat"] == 7.0


async def test_the_second_subscriber_needs_no_index() -> None:
    meadow = Meadow()
    meadow.connect()
    await meadow.watch(0)
    meadow.places.down = True
    second = meadow.join(1)
    meadow.subscribing.subscribe(second, DOG, None)
    assert [message["type"] for message in second.hear()] == ["subscribed"]


async def test_the_same_device_of_two_accounts_is_two() -> None:
    meadow = Meadow()
    meadow.connect()
    meadow.connect(account="other")
    ours, theirs = await meadow.watch(0), await meadow.watch(1, "other")
    ours.hear(), theirs.hear()
    meadow.move(9, account="other")
    assert ours.hear() == []
    assert len(theirs.hear()) == 1


@pytest.mark.parametrize("name", ["device:cat-1", "device:", "device", "device:" + "x" * 129, "device:a\x00b"])
async def test_what_is_unknown_and_what_is_foreign_is_answered_alike(name: str) -> None:
    meadow = Meadow()
    meadow.connect("cat-1", "other")
    owner = await meadow.watch(name=name)
    message = "there is no such channel"
    assert owner.hear() == [{"type": "error", "code": "not_found", "message": message, "channel": name}]
    assert meadow.fanout.is_idle


async def test_an_index_that_is_down_is_said() -> None:
    meadow = Meadow()
    meadow.connect()
    meadow.places.down = True
    owner = await meadow.watch()
    assert _data(owner.hear()) == ["unavailable"]
    assert meadow.fanout.is_idle


async def test_a_slow_subscriber_misses_steps_and_never_the_last_one() -> None:
    meadow = Meadow()
    meadow.connect()
    owner = await meadow.watch()
    owner.hear()
    owner.slow = True
    for time in range(1, 6):
        meadow.move(time)
    assert owner.hear() == []
    meadow.wake(owner)
    assert [state["location"]["time"] for state in _data(owner.hear())] == [5]
    meadow.move(6)
    assert [state["location"]["time"] for state in _data(owner.hear())] == [6]


async def test_nobody_is_told_where_nobody_watches_and_neighbours_where_they_do() -> None:
    meadow = Meadow()
    meadow.connect()
    meadow.move(1)
    assert meadow.neighbours.told == []
    meadow.neighbours.wanted_elsewhere.add(device_channel("acme", "dog-1"))
    meadow.move(2)
    meadow.devices.connection_changed("acme", "cat-1", 0)
    assert meadow.neighbours.told == [("publish", Channel("acme", DOG))]


async def test_what_another_gateway_tells_reaches_subscribers_here() -> None:
    meadow = Meadow()
    meadow.connect()
    owner = await meadow.watch()
    owner.hear()
    meadow.fanout.receive(Channel("acme", DOG), DeviceState(position=Position(9, 3.0, 4.0)))
    meadow.fanout.receive(Channel("other", DOG), DeviceState(connected=False))
    meadow.fanout.receive(Channel("acme", "device:cat-1"), DeviceState(connected=False))
    assert [state["location"]["lat"] for state in _data(owner.hear())] == [3.0]
    assert meadow.neighbours.told == [("wanted", Channel("acme", DOG))]


async def test_doubt_reads_everything_again() -> None:
    meadow = Meadow()
    meadow.places.found["acme", "dog-1"] = Found("dog-1", "e", 5, 1.0, 2.0)
    owner = await meadow.watch()
    owner.hear()
    meadow.places.found["acme", "dog-1"] = Found("dog-1", "e", 6, 1.0, 2.0)
    meadow.fanout.doubt()
    await meadow.settle()
    assert [state["location"]["time"] for state in _data(owner.hear())] == [6]


def test_of_two_gateways_the_larger_order_tells_whether_it_is_connected() -> None:
    here = DeviceState(connected=True, order=8)
    assert merged(here, DeviceState(connected=False, order=7)) is here
    assert merged(here, DeviceState(connected=False, order=9)).connected is False
    assert merged(here, DeviceState(position=Position(1, 1.0, 1.0))).connected is True


async def test_a_connection_has_so_many_subscriptions_and_no_more() -> None:
    meadow = Meadow(maximum=2)
    for name in ("a", "b", "c"):
        meadow.connect(name)
    owner = await meadow.watch(name="device:a")
    for name in ("b", "c", "a"):
        meadow.subscribing.subscribe(owner, f"device:{name}", None)
        await meadow.settle()
    told = [(message["channel"][-1], message.get("code", "")) for message in owner.hear()]
    assert told == [("a", ""), ("b", ""), ("c", "too_many"), ("a", "")]
    meadow.subscribing.unsubscribe(owner, "device:a")
    meadow.subscribing.unsubscribe(owner, "device:a")
    meadow.subscribing.subscribe(owner, "device:c", None)
    await meadow.settle()
    assert [message["type"] for message in owner.hear()] == ["unsubscribed", "unsubscribed", "subscribed"]


async def test_without_the_scope_there_is_no_channel_and_a_new_token_may_end_it() -> None:
    meadow = Meadow()
    meadow.connect()
    stranger = meadow.join(1, "acme", "progress:read")
    meadow.subscribing.subscribe(stranger, DOG, None)
    assert _data(stranger.hear()) == ["forbidden"]
    owner = await meadow.watch()
    owner.hear()
    owner.scopes = {"progress:read"}
    meadow.subscribing.renewed(owner)
    meadow.move(9)
    assert _data(owner.hear()) == ["forbidden"]


async def test_a_gateway_short_of_memory_takes_no_more_subscriptions() -> None:
    meadow = Meadow()
    meadow.connect()
    meadow.short = True
    assert _data((await meadow.watch()).hear()) == ["overloaded"]


@pytest.mark.parametrize(("channels", "least", "most"), [(1, 40, 300), (1000, 300, 560)])
async def test_a_subscription_takes_little(
    channels: int, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bytes, of 1,000 subscribers: to one channel, and to a channel of its own each, with its name and its state."""
    monkeypatch.setattr(FakeSubscriber, "send", lambda *_: None)
    hall = Hall(slots=1000)
    places = Places()
    places.found = {("acme", f"dog-{number}"): Found("dog", "e", 5, 1.0, 2.0) for number in range(channels)}
    DeviceChannel(Bench().hub.registry, places, hall.fanout)
    subscribers = [hall.join(slot) for slot in range(1000)]
    tracemalloc.start()
    for subscriber in subscribers:
        hall.subscribing.subscribe(subscriber, f"device:dog-{subscriber.slot % channels}", None)
    await hall.settle()
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] / 1000
    tracemalloc.stop()
    assert least < taken < most
