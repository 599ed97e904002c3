"""Devices of several gateways, as one list."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.adapters.clock import SystemClock
from gateway.app.peering import devices
from gateway.channels.devices import FleetDevices, LocalDevices
from gateway.errors import BrokerDownError
from tests.support.gateways import FakeFleet, FakeGateway, until


def of(gateway: FakeGateway) -> LocalDevices | FleetDevices:
    return devices(gateway.bench.hub, gateway.peering)


async def names(found: LocalDevices | FleetDevices, limit: int, account: str = "acme") -> list[str]:
    """All pages."""
    seen: list[str] = []
    after = None
    while True:
        page = await found.page(account, after, limit)
        assert len(page.devices) <= limit
        seen += [one.device for one in page.devices]
        after = page.next
        if after is None:
            return seen


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_all_pages_hold_every_device_of_all_gateways_once(limit: int) -> None:
    world = FakeFleet("one", "two", "three", clock=SystemClock())
    async with world as gateways:
        lists = [of(gateway) for gateway in gateways]
        for number in range(20):
            gateways[number * 7 % 3].join(f"d{number:02}")
        # Tabs of one reader, wherever they are, are one device.
        for gateway in gateways:
            gateway.join("me", "", "progress:read")
        await until(lambda: all(gateway.peering.announcer.due == 0 for gateway in gateways))
        for found in lists:
            assert await names(found, limit) == [*(f"d{number:02}" for number in range(20)), "me"]
            assert await names(found, limit, "other") == []


async def test_one_that_left_while_a_page_was_made_ends_no_list() -> None:
    world = FakeFleet("one", clock=SystemClock())
    async with world as (one,):
        for name in ("a", "b", "c"):
            one.join(name)
        registry = one.bench.hub.registry
        registry.names = lambda _: ["c", "aa-gone", "a", "b"]  # type: ignore[assignment]
        page = await LocalDevices(registry).page("acme", None, 2)
        assert ([one.device for one in page.devices], page.next) == (["a"], "aa-gone")


async def test_a_device_is_described_and_sent_away_wherever_it_is() -> None:
    world = FakeFleet("one", "two", clock=SystemClock())
    async with world as (one, two):
        found = of(one)
        of(two)
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        known = await found.describe("acme", "lamp")
        assert known.connection == lamp.connection.describe()
        assert (await found.describe("other", "lamp")).connection is None
        assert not await found.dismiss("other", "lamp", 1001, "operator")
        assert await found.dismiss("acme", "lamp", 1001, "stolen")
        lamp.transport.finish()
        await until(lambda: world.held_by() is None)
        assert not await found.dismiss("acme", "lamp", 1001, "stolen")
        known = await found.describe("acme", "lamp")
        assert known.connection is None
        assert known.last_disconnect is not None
        assert known.last_disconnect.reason == "stolen"


async def test_a_gateway_that_does_not_answer_holds_nobody_up() -> None:
    world = FakeFleet("one", "two", clock=SystemClock())
    async with world as (one, two):
        found = of(one)
        of(two)
        near, _ = one.join("near"), two.join("far")
        await until(lambda: world.held_by("far") == "two" and world.held_by("near") == "one")
        # Its lease is good, and nobody reads what it is sent.
        world.exchange.leases_s["ghost"] = float("inf")
        page = await found.page("acme", None, 10)
        assert ([device.device for device in page.devices], page.incomplete) == (
            ["far", "near"],
            "no answer from ghost",
        )
        assert (await found.describe("acme", "far")).connection is not None
        assert await found.dismiss("acme", "near", 1001, "x")
        near.transport.finish()
        for asking in (found.describe("acme", "nobody"), found.dismiss("acme", "nobody", 1001, "x")):
            with pytest.raises(BrokerDownError, match="ghost"):
                await asking


async def test_without_the_broker_only_ours_are_known() -> None:
    world = FakeFleet("one", "two", clock=SystemClock())
    async with world as (one, _):
        found = of(one)
        one.join("near")
        await until(lambda: world.held_by("near") == "one")
        world.exchange.problem = "the exchange burns"
        assert (await found.describe("acme", "near")).connection is not None
        assert await found.dismiss("acme", "near", 1001, "x")
        asking: list[Any] = [found.describe("acme", "far"), found.dismiss("acme", "far", 1001, "x")]
        page = await found.page("acme", None, 10)
        assert [device.device for device in page.devices] == ["near"]
        assert "burns" in page.incomplete
        for refused in asking:
            with pytest.raises(BrokerDownError, match="burns"):
                await asyncio.wait_for(refused, 1)
