"""Devices through real HTTP, on fakes of what stands behind."""

from typing import Any

import pytest

from gateway.connections.info import DisconnectInfo
from gateway.locations.query import Found
from gateway.wire.close_codes import Fault
from tests.support.api import Client, World, bearer, device_url, problem

ODD_IDS = ["a/b", "100%", "%2F", "ビル 7", "a?b#c", "{x}", "a+b&c=d", "..;", "tab\tnew\nline", "é" * 64]


async def test_cursors_lead_through_all_devices_once(world: World, operations: Client) -> None:
    names = sorted([*ODD_IDS, *(f"d{number:02}" for number in range(13))])
    for name in names:
        world.devices.connect("acme", name)
    world.devices.connect("other", "hidden")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "5"} | ({"cursor": cursor} if cursor else {})
        response = await operations.get("/api/v1/devices", params=query, headers=bearer("device:read"))
        body = await response.json()
        assert 0 < len(body["devices"]) <= 5
        seen += [device["device"] for device in body["devices"]]
        cursor = body["next"]
    assert seen == names


async def test_a_page_says_whose_devices_are_missing(world: World, operations: Client) -> None:
    world.devices.connect("acme", "a")
    response = await operations.get("/api/v1/devices", headers=bearer("device:read"))
    assert (await response.json())["incomplete"] is None
    world.devices.incomplete = "no answer from one, two"
    response = await operations.get("/api/v1/devices", headers=bearer("device:read"))
    body = await response.json()
    assert (len(body["devices"]), body["incomplete"]) == (1, "no answer from one, two")


@pytest.mark.parametrize("query", ["limit=x", "limit=1001", "cursor=AAA", "cursor=%21", "offset=3"])
async def test_a_bad_page_is_refused(operations: Client, query: str) -> None:
    await problem(await operations.get(f"/api/v1/devices?{query}", headers=bearer("device:read")), 400)


@pytest.mark.parametrize("name", ODD_IDS)
async def test_any_id_can_stand_in_a_path(world: World, operations: Client, name: str) -> None:
    world.devices.connect("acme", name)
    response = await operations.get(device_url(name), headers=bearer("device:read"))
    assert (await response.json())["device"] == name
    await operations.get(device_url(name, "/track"), headers=bearer("location:read"))
    assert world.search.asked[0][1].device == name
    response = await operations.post(device_url(name, "/disconnect"), headers=bearer("device:write"))
    assert response.status == 202


async def test_a_device_is_what_was_last_heard_of_it(world: World, operations: Client) -> None:
    await problem(await operations.get("/api/v1/devices/d1", headers=bearer("device:read")), 404)
    world.devices.ended["acme", "d1"] = DisconnectInfo(9, 1006, "heartbeat", Fault.NETWORK)
    body = await (await operations.get("/api/v1/devices/d1", headers=bearer("device:read"))).json()
    assert body == {
        "device": "d1",
        "connection": None,
        "last_disconnect": {"time_ms": 9, "code": 1006, "reason": "heartbeat", "fault": "network"},
        "latest": None,
    }
    world.search.newest = Found("d1", "7", 5, 1.0, 2.0)
    body = await (await operations.get("/api/v1/devices/d1", headers=bearer("device:read"))).json()
    assert body["latest"] == {"device": "d1", "id": "7", "time": 5, "lat": 1.0, "lon": 2.0}
    world.devices.connect("acme", "d1")
    world.devices.positions["acme", "d1"] = {"id": "8", "time": 6, "lat": 3.0, "lon": 4.0}
    body = await (await operations.get("/api/v1/devices/d1", headers=bearer("device:read"))).json()
    assert body["connection"]["address"] == "10.0.0.1:5"
    assert body["latest"]["id"] == "8"


async def test_accounts_do_not_see_each_other(world: World, operations: Client) -> None:
    world.devices.connect("acme", "d1")
    foreign = bearer("device:read device:write location:read", account="other")
    await problem(await operations.get("/api/v1/devices/d1", headers=foreign), 404)
    assert (await (await operations.get("/api/v1/devices", headers=foreign)).json())["devices"] == []
    await problem(await operations.post("/api/v1/devices/d1/disconnect", headers=foreign), 404)
    assert world.devices.asked == [("other", "d1", 1001, "operator")]
    await operations.get("/api/v1/devices/d1/track", headers=foreign)
    assert world.search.asked[0][0] == "other"


async def test_disconnect_passes_code_and_reason(world: World, operations: Client) -> None:
    world.devices.connect("acme", "d1")
    wish = {"code": 1008, "reason": "stolen"}
    response = await operations.post("/api/v1/devices/d1/disconnect", json=wish, headers=bearer("device:write"))
    assert await response.json() == {"device": "d1", **wish}
    assert world.devices.asked == [("acme", "d1", 1008, "stolen")]


@pytest.mark.parametrize(
    "wish", [{"code": 1006}, {"code": "x"}, {"reason": ""}, {"reason": "a\nb"}, {"reason": "x" * 101}, {"cod": 1}, 7]
)
async def test_disconnect_refuses_what_cannot_be_sent(world: World, operations: Client, wish: Any) -> None:
    response = await operations.post("/api/v1/devices/d1/disconnect", json=wish, headers=bearer("device:write"))
    await problem(response, 422)
    assert world.devices.asked == []


async def test_a_name_longer_than_any_device_has_is_not_found(operations: Client) -> None:
    await problem(await operations.get(device_url("é" * 65), headers=bearer("device:read")), 404)
