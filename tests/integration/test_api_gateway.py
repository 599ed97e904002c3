"""The API on a whole gateway in this process: its own pipeline, index, registry and websockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import ClientSession

from gateway.adapters.clock import SystemClock
from gateway.app.gateway import Gateway
from gateway.device.client import Device
from gateway.device.plan import Plan, Token
from gateway.device.track import Leg
from gateway.identity.minting import DEVICE_SCOPE, Minter
from gateway.settings.load import load
from gateway.settings.model import Settings

READ = "location:read device:read device:write location:write"


class Watcher:
    """Sets an event at the first and at the second connection."""

    def __init__(self) -> None:
        self.connected = [asyncio.Event(), asyncio.Event()]
        self._left = iter(self.connected)

    def note(self, text: str) -> None:
        pass

    def state(self, text: str) -> None:
        if text == "connected":
            next(self._left).set()


class Site:
    """A running gateway with a client for each account."""

    def __init__(self, gateway: Gateway, settings: Settings, session: ClientSession) -> None:
        self.public = f"http://{gateway.addresses['public'][0]}"
        self.operations = f"http://{gateway.addresses['operations'][0]}"
        self.websocket = f"ws://{gateway.addresses['public'][0]}/ws"
        self.session = session
        self.minter = Minter(settings)

    def token(self, account: str, device: str, scope: str = READ) -> str:
        now_s = SystemClock().time_ms() / 1000
        return self.minter.mint(device, account, scope, "", now_s, 60).token

    async def get(self, path: str, account: str = "acme") -> tuple[int, Any]:
        return await self.call("GET", f"{self.operations}{path}", account)

    async def call(self, method: str, url: str, account: str, device: str = "d", **more: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token(account, device)}"}
        async with self.session.request(method, url, headers=headers, **more) as response:
            return response.status, await response.json(content_type=None)

    def device(self, account: str, name: str, legs: list[Leg], speed: float = 0.0) -> Device:
        token = Token(self.token(account, name, DEVICE_SCOPE))
        self.watcher = Watcher()
        return Device(
            Plan(self.websocket, iter(legs), "run", token, speed=speed), SystemClock(), Random(1), self.watcher
        )


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    flags = [
        f"data.folder={tmp_path / 'data'}",
        "listen.public=127.0.0.1:0",
        "listen.operations=127.0.0.1:0",
        "connections.heartbeat_s=30",
    ]
    settings = load(None, {}, flags).settings
    gateway = Gateway(settings)
    await gateway.start()
    try:
        async with ClientSession() as session:
            yield Site(gateway, settings, session)
    finally:
        await gateway.stop()


def event(id_: str, lat: float, lon: float) -> dict[str, Any]:
    return {"id": id_, "time": SystemClock().time_ms(), "lat": lat, "lon": lon}


async def test_what_is_acknowledged_is_found_at_once_and_by_its_account_only(site: Site) -> None:
    for account, lat in (("acme", 35.0), ("other", 36.0)):
        body = {"events": [event("1", lat, 135.0)]}
        status, answer = await site.call("POST", f"{site.public}/api/v1/locations", account, json=body)
        assert (status, answer["nacks"]) == (200, [])
        assert answer["acks"] == [{"ids": ["1"], "durability": "indexed"}]
    for account, lat in (("acme", 35.0), ("other", 36.0)):
        for path in ("/locations/search", "/devices/d/track", "/locations/search?bbox=134,34,136,37"):
            status, page = await site.get(f"/api/v1{path}", account)
            assert status == 200
            assert [(found["id"], found["lat"]) for found in page["events"]] == [("1", lat)]
        status, detail = await site.get("/api/v1/devices/d", account)
        assert detail["latest"]["lat"] == lat
    assert (await site.get("/api/v1/devices/d", "third"))[0] == 404


async def test_a_search_can_be_followed_to_its_end(site: Site) -> None:
    body = {"events": [event(f"e{number}", 35.0, 135.0 + number / 1000) for number in range(25)]}
    await site.call("POST", f"{site.public}/api/v1/locations", "acme", json=body)
    polygon = {"type": "Polygon", "coordinates": [[[134, 34], [136, 34], [136, 36], [134, 36], [134, 34]]]}
    searches: list[tuple[str, Any]] = [("GET", {}), ("POST", {"json": {"polygon": polygon}})]
    for method, more in searches:
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            url = f"{site.operations}/api/v1/locations/search?limit=10&cursor={cursor}"
            status, page = await site.call(method, url, "acme", **more)
            assert status == 200
            seen += [found["id"] for found in page["events"]]
            cursor = page["next"]
        assert sorted(seen) == sorted(f"e{number}" for number in range(25))


async def test_a_device_is_seen_and_sent_away(site: Site) -> None:
    name = "van/7 ü"
    legs = [Leg(0, 35.0, 135.0, None, None), Leg(600_000, 35.1, 135.1, None, None)]
    device = site.device("acme", name, legs, speed=1.0)
    acknowledged = asyncio.Event()
    device.record.latency.add = lambda latency_ms: acknowledged.set()  # type: ignore[method-assign]
    running = asyncio.create_task(device.run())
    try:
        async with asyncio.timeout(20):
            await acknowledged.wait()
        path = "/api/v1/devices/van%2F7%20%C3%BC"
        status, detail = await site.get(path)
        assert status == 200
        assert detail["connection"]["device"] == name
        assert (detail["latest"]["lat"], detail["latest"]["lon"]) == (35.0, 135.0)
        assert [item["device"] for item in (await site.get("/api/v1/devices"))[1]["devices"]] == [name]
        assert (await site.get("/api/v1/devices", "other"))[1]["devices"] == []
        assert (await site.get(path, "other"))[0] == 404
        status, _ = await site.call("POST", f"{site.operations}{path}/disconnect", "other")
        assert status == 404
        status, answer = await site.call("POST", f"{site.operations}{path}/disconnect", "acme")
        assert (status, answer["code"]) == (202, 1001)
        async with asyncio.timeout(20):
            await site.watcher.connected[1].wait()
        assert (await site.get(path))[1]["last_disconnect"]["fault"] == "plan"
    finally:
        device.stop()
        await running
    assert device.record.outbox.acked == device.record.measured == 1


async def test_a_thousand_events_arrive_once_each(site: Site) -> None:
    device = site.device("acme", "busy", [Leg(0, 35.0, 135.0 + number / 1e4, None, None) for number in range(1000)])
    async with asyncio.timeout(30):
        await device.run()
    assert (device.record.outbox.acked, device.record.outbox.resent) == (1000, 0)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        _, page = await site.get(f"/api/v1/devices/busy/track?limit=300&cursor={cursor}")
        seen += [found["id"] for found in page["events"]]
        cursor = page["next"]
    assert sorted(seen) == sorted(f"run-{number}" for number in range(1000))
