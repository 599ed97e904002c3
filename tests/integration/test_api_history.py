"""Past connections over HTTP."""

from __future__ import annotations

from gateway.errors import BrokerDownError, StoreError
from gateway.history.record import PastConnection
from gateway.wire.close_codes import Fault
from tests.support.api import Client, World, bearer, device_url, problem

PAST = PastConnection("c0", "gw-1", "10.0.0.1", "", 1000, 61_000, 1006, "eof", Fault.NETWORK)


async def test_past_connections_and_why(world: World, operations: Client) -> None:
    world.past.connections = [PAST]
    response = await operations.get(device_url("a/b", "/connections"), headers=bearer("device:read"))
    body = await response.json()
    assert world.past.asked == [("acme", "a/b")]
    assert (body["device"], body["incomplete"]) == ("a/b", None)
    assert body["why"].startswith("a/b is not connected. Its last connection began at 1970-01-01 00:00:01 UTC on gw-1")
    assert body["connections"][0]["reason"] == "eof"
    world.devices.connect("acme", "a/b")
    world.past.incomplete = "no answer from gw-2"
    response = await operations.get(device_url("a/b", "/connections"), headers=bearer("device:read"))
    body = await response.json()
    assert body["why"].startswith("a/b is connected. The one before began")
    assert body["incomplete"] == "no answer from gw-2"


async def test_who_may_ask_and_what_cannot_be_known(world: World, operations: Client) -> None:
    path = device_url("d1", "/connections")
    await problem(await operations.get(path, headers=bearer("location:read")), 403)
    assert world.past.asked == []
    await problem(await operations.get(path, headers=bearer("device:read")), 404)
    world.past.failure = StoreError("disk")
    await problem(await operations.get(path, headers=bearer("device:read")), 503)
    world.past.failure = None

    async def away(*_: object) -> None:
        raise BrokerDownError("burns")

    world.devices.describe = away  # type: ignore[method-assign, assignment]
    await problem(await operations.get(path, headers=bearer("device:read")), 503)
