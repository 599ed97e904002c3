"""Devices that are watched from other gateways, which share an exchange in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.adapters.clock import SystemClock
from gateway.channels import announcing
from gateway.channels import peer_channels as module
from gateway.channels.channel import device_channel
from gateway.channels.device_state import DeviceState, Position
from gateway.channels.envelopes import Changed, Watched
from gateway.errors import BrokerDownError
from tests.support.gateways import FakeFleet, FakeGateway, Member, until

LAMP = device_channel("acme", "lamp")


def fleet(*names: str) -> FakeFleet:
    return FakeFleet(*(names or ("one", "two")), clock=SystemClock())


def at(time: int) -> Any:
    return lambda data: data["location"] is not None and data["location"]["time"] == time


def connected(data: Any) -> bool:
    return bool(data["connected"])


def gone(data: Any) -> bool:
    return not data["connected"]


async def watching(gateway: FakeGateway) -> Member:
    """A client that watches the lamp."""
    watcher = gateway.join("phone", "", "location:read")
    gateway.watch(watcher)
    await watcher.told(lambda _: True)
    return watcher


async def test_a_device_is_watched_from_another_gateway() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        phone = await watching(one)
        await until(lambda: two.peering.channels.wants(LAMP))
        two.moved(5)
        assert (await phone.told(at(5)))["connected"]
        lamp.transport.finish()
        await phone.told(gone)
        await until(lambda: two.peering.channels.is_idle)


async def test_it_is_watched_wherever_it_comes_up() -> None:
    world = fleet("one", "two", "three")
    async with world as (one, two, three):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        phone = await watching(one)
        lamp.transport.finish()
        await phone.told(gone)
        for holder, time in ((three, 7), (two, 8), (one, 9)):
            lamp = holder.join()
            await phone.told(connected)
            holder.moved(time)
            await phone.told(at(time))
            lamp.transport.finish()
            await phone.told(gone)


async def test_an_old_connection_that_ends_late_hides_no_new_one() -> None:
    world = fleet("one", "two", "three")
    async with world as (one, two, three):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        phone = await watching(one)
        await until(lambda: two.peering.channels.wants(LAMP))
        three.join()
        await until(lambda: world.held_by() == "three")
        await until(lambda: not lamp.connection.stays)
        lamp.transport.finish()
        three.moved(9)
        assert (await phone.told(at(9)))["connected"]
        # It comes to the watcher's own gateway, and the one before that ends afterwards.
        one.join()
        await until(lambda: world.held_by() == "one")
        one.moved(10)
        assert (await phone.told(at(10)))["connected"]


async def test_what_nobody_watches_is_told_to_nobody() -> None:
    world = fleet()
    async with world as (one, two):
        two.join()
        await until(lambda: world.held_by() == "two")
        assert two.peering.channels.is_idle
        phone = await watching(one)
        await until(lambda: two.peering.channels.wants(LAMP))
        one.fanout.unsubscribe(phone.connection, "device:lamp")
        await until(lambda: two.peering.channels.is_idle)
        assert world.exchange.interest["acme", "device:lamp"] == set()
        posted = world.exchange.posts
        two.moved(5)
        assert world.exchange.posts == posted


async def test_after_a_loss_all_is_read_again() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        phone = await watching(one)
        world.exchange.problem = "the exchange burns"
        two.moved(5)
        lamp.transport.finish()
        two.join()
        two.moved(6)
        world.exchange.rows.clear()
        world.exchange.interest.clear()
        world.exchange.problem = ""
        for gateway in (one, two):
            gateway.peering.returned()
        await until(lambda: two.peering.channels.wants(LAMP))
        two.moved(7)
        # Its new connection has no number for a moment.
        await phone.told(lambda data: at(7)(data) and connected(data))


async def test_nothing_of_another_account_is_told() -> None:
    world = fleet()
    async with world as (one, two):
        two.join()
        await until(lambda: world.held_by() == "two")
        phone = await watching(one)
        peers = two.peering.peers
        for account in ("other", ""):
            assert await peers.tell("two", account, Watched("device:lamp", "spy", watched=True))
            state = [True, {"time": 99, "lat": 1.0, "lon": 2.0}, 10**18]
            assert await peers.tell("one", account, Changed("device:lamp", state))
        # Of a family that this version does not know, and of a device that is not here.
        assert await peers.tell("one", "acme", Changed("mood:lamp", 1))
        assert await peers.tell("two", "acme", Watched("device:other", "one", watched=True))
        two.moved(5)
        await phone.told(at(5))
        assert phone.heard() == []
        assert not two.peering.channels.wants(device_channel("acme", "other"))


async def test_a_watcher_whose_gateway_died_is_forgotten() -> None:
    world = fleet()
    async with world as (one, two):
        two.join()
        await until(lambda: world.held_by() == "two")
        await watching(one)
        await until(lambda: two.peering.channels.wants(LAMP))
        del world.exchange.inboxes["one"]
        two.moved(5)
        await until(lambda: two.peering.channels.is_idle)


async def test_what_is_known_of_a_device_elsewhere() -> None:
    world = fleet()
    async with world as (one, two):
        channels = one.peering.channels
        assert await channels.state("acme", "lamp") is None
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        table, slot = two.bench.hub.table, lamp.connection.slot
        table.position_ms[slot], table.lat[slot], table.lon[slot] = 5, 1.0, 2.0
        found = await channels.state("acme", "lamp")
        assert found is not None
        assert (found.connected, found.position) == (True, Position(5, 1.0, 2.0))
        lamp.transport.finish()
        await until(lambda: world.held_by() is None)
        assert await channels.state("acme", "lamp") == DeviceState(connected=False, order=found.order)
        world.exchange.problem = "the exchange burns"
        with pytest.raises(BrokerDownError, match="burns"):
            await channels.state("acme", "lamp")


async def test_whether_there_is_such_a_device_cannot_be_known_without_the_broker() -> None:
    world = fleet()
    async with world as (one, two):
        one.join("near")
        two.join()
        await until(lambda: world.held_by() == "two")
        world.exchange.problem = "the exchange burns"
        phone = one.join("phone", "", "location:read")
        one.watch(phone)
        one.watch(phone, "near")
        told: list[Any] = []

        def both() -> bool:
            told.extend(message for message in phone.heard() if isinstance(message, dict))
            return len(told) == 2

        await until(both)
        by_channel = {message["channel"]: message for message in told}
        assert by_channel["device:near"]["snapshot"]["connected"]
        refused = by_channel["device:lamp"]
        assert (refused["code"], "burns" in refused["message"]) == ("unavailable", True)


async def test_interest_that_could_not_be_noted_is_noted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.02)
    world = fleet()
    async with world as (one, two):
        lamp = one.join()
        await until(lambda: world.held_by() == "one")
        directory = one.peering.directory
        watch, refusals = directory.watch, ["full", "full"]

        async def refuse(account: str, channel: str) -> None:
            if refusals:
                raise BrokerDownError(refusals.pop())
            await watch(account, channel)

        monkeypatch.setattr(directory, "watch", refuse)
        phone = await watching(one)
        await until(lambda: world.exchange.interest.get(("acme", "device:lamp")) == {"one"})
        assert refusals == []
        lamp.transport.finish()
        two.join()
        await until(lambda: two.peering.channels.wants(LAMP))
        two.moved(5)
        await phone.told(at(5))


async def test_interest_that_the_directory_forgot_in_time_is_noted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMIND_S", 0.05)
    world = fleet()
    async with world as (one, two):
        lamp = one.join()
        await until(lambda: world.held_by() == "one")
        phone = await watching(one)
        # It is kept for a day, and a client may watch for longer.
        world.exchange.interest.clear()
        await until(lambda: world.exchange.interest.get(("acme", "device:lamp")) == {"one"})
        lamp.transport.finish()
        two.join()
        await until(lambda: two.peering.channels.wants(LAMP))
        two.moved(5)
        await phone.told(at(5))


async def test_who_watches_a_device_of_a_gateway_that_was_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "_RENEW_S", 0.05)
    world = fleet("one", "two", "three")
    async with world as (one, two, three):
        two.join()
        three.join("other")
        await until(lambda: world.held_by() == "two" and world.held_by("other") == "three")
        phone, second = await watching(one), one.join("second", "", "location:read")
        one.watch(second, "other")
        assert (await second.told(lambda _: True))["connected"]
        one.bench.clock.advance(1)
        await until(lambda: one.peering.announcer.living == {"one", "two", "three"})
        # Its clock stands still: it says nothing any more.
        world.exchange.leases_s["two"] = float("-inf")
        one.bench.clock.advance(1)
        await phone.told(gone)
        assert second.heard() == []
        # It was only held up: it announces all that it has.
        two.peering.announcer.returned()
        await phone.told(connected)


async def test_who_watches_no_longer_is_forgotten_although_the_state_is_read_in_that_moment() -> None:
    world = fleet()
    async with world as (one, two):
        two.join()
        await until(lambda: world.held_by() == "two")
        one.peering.channels.wanted(LAMP)
        await until(lambda: two.peering.channels.wants(LAMP))
        one.peering.channels.unwanted(LAMP)
        await one.peering.channels.state("acme", "lamp")
        await until(lambda: two.peering.channels.is_idle)
        assert not world.exchange.interest.get(("acme", "device:lamp"))


async def test_what_is_told_to_nobody_any_more_ends_with_the_next_announcement() -> None:
    world = fleet()
    async with world as (one, two):
        two.join()
        await until(lambda: world.held_by() == "two")
        await watching(one)
        await until(lambda: two.peering.channels.wants(LAMP))
        # The word that nobody watches was lost.
        world.exchange.interest.clear()
        two.peering.announcer.returned()
        await until(lambda: two.peering.channels.is_idle)


async def test_who_begins_to_watch_while_the_device_is_announced_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    world = fleet("one", "two", "three")
    async with world as (one, two, three):
        two.join()
        await until(lambda: world.held_by() == "two")
        first = await watching(one)
        await until(lambda: two.peering.channels.wants(LAMP))
        directory = two.peering.directory
        write, asked, answer = directory.write, asyncio.Event(), asyncio.Event()

        async def slow(changes: Any, rule: Any) -> Any:
            standings = await write(changes, rule)
            asked.set()
            await answer.wait()
            return standings

        monkeypatch.setattr(directory, "write", slow)
        # As it is from time to time in any case.
        two.peering.announcer.returned()
        await asked.wait()
        second = await watching(three)
        await until(lambda: world.exchange.interest["acme", "device:lamp"] == {"one", "three"})
        answer.set()
        await until(lambda: not two.peering.announcer.is_asking)
        two.moved(5)
        await first.told(at(5))
        await second.told(at(5))
