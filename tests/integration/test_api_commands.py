"""Commands over HTTP, on a courier that settles as it is told."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.channels.commands import DeviceError, Outcome, Progress, Settled
from gateway.connections.info import DisconnectInfo
from gateway.errors import BrokerDownError, KeyReusedError
from gateway.wire.close_codes import Fault
from tests.support.api import Client, World, bearer, device_url, problem


async def ask(
    operations: Client, body: Any, scope: str = "command:send", name: str = "lamp", key: str | None = None
) -> Any:
    headers = bearer(scope) | ({} if key is None else {"Idempotency-Key": key})
    return await operations.post(device_url(name, "/commands"), json=body, headers=headers)


async def test_a_command_is_answered_with_the_value(world: World, operations: Client) -> None:
    response = await ask(operations, {"name": "switch", "args": {"on": True}, "deadline_ms": 2000})
    assert response.status == 200
    assert await response.json() == {"device": "lamp", "name": "switch", "value": {"on": True}}
    await ask(operations, {"name": "toggle"}, name="a/b")
    assert world.courier.sent == [
        ("acme", "lamp", "switch", {"on": True}, 2000),
        ("acme", "a/b", "toggle", None, 10_000),
    ]


async def test_it_needs_the_scope(world: World, operations: Client) -> None:
    await problem(await ask(operations, {"name": "x"}, "device:write command:receive"), 403)
    assert world.courier.sent == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "$.name"),
        ({"name": "x" * 129}, "$.name"),
        ({"name": "x", "deadline_ms": 60_001}, "$.deadline_ms"),
        ({"name": "x", "deadline_ms": 0}, "$.deadline_ms"),
        ({"name": "x", "delay": 1}, "delay"),
    ],
)
async def test_a_bad_body_names_its_field(world: World, operations: Client, body: Any, field: str) -> None:
    told = await problem(await ask(operations, body), 422)
    assert field in told["detail"]
    assert world.courier.sent == []


@pytest.mark.parametrize(
    ("settled", "status"),
    [
        (Settled(Outcome.UNKNOWN), 404),
        (Settled(Outcome.DEAF), 409),
        (Settled(Outcome.TOO_LARGE, detail="996 bytes"), 413),
        (Settled(Outcome.GONE), 504),
        (Settled(Outcome.TIMED_OUT), 504),
    ],
)
async def test_why_there_is_no_value(world: World, operations: Client, settled: Settled, status: int) -> None:
    world.courier.settled = settled
    told = await problem(await ask(operations, {"name": "x"}), status)
    assert told["outcome"] == settled.outcome.value
    assert settled.detail in told["detail"]


async def test_offline_says_how_it_left(world: World, operations: Client) -> None:
    world.courier.settled = Settled(Outcome.OFFLINE, DisconnectInfo(9, 1006, "heartbeat", Fault.NETWORK))
    told = await problem(await ask(operations, {"name": "x"}), 409)
    assert told["last_disconnect"] == {"time_ms": 9, "code": 1006, "reason": "heartbeat", "fault": "network"}


async def test_the_devices_own_error_and_its_last_report(world: World, operations: Client) -> None:
    world.courier.settled = Settled(Outcome.FAILED, DeviceError("jammed", "the door is stuck"))
    told = await problem(await ask(operations, {"name": "x"}), 502)
    assert told["error"] == {"code": "jammed", "message": "the door is stuck"}
    assert told["detail"].endswith("error of its own: jammed: the door is stuck")
    world.courier.settled = Settled(Outcome.TIMED_OUT, progress=Progress(40, "heating"))
    told = await problem(await ask(operations, {"name": "x"}), 504)
    assert told["progress"] == {"percent": 40, "message": "heating"}


async def test_busy_says_when_to_ask_again(world: World, operations: Client) -> None:
    world.courier.settled = Settled(Outcome.BUSY)
    response = await ask(operations, {"name": "x"})
    assert response.headers["Retry-After"] == "1"
    await problem(response, 429)


async def test_a_key_goes_with_its_sender(world: World, operations: Client) -> None:
    response = await ask(operations, {"name": "x"}, key="k-1")
    assert response.status == 200
    ((key, sender, command),) = world.courier.once
    assert (key, command.account, command.device, command.name) == ("k-1", "acme", "lamp", "x")
    assert sender
    assert world.courier.sent == []


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
async def test_a_key_is_printable_and_short(world: World, operations: Client, key: str) -> None:
    response = await ask(operations, {"name": "x"}, key=key)
    await problem(response, 400)
    assert world.courier.once == []


@pytest.mark.parametrize(("failure", "status"), [(KeyReusedError("used"), 422), (BrokerDownError("burns"), 503)])
async def test_a_key_that_cannot_be_used(world: World, operations: Client, failure: Exception, status: int) -> None:
    world.courier.failure = failure
    response = await ask(operations, {"name": "x"}, key="k")
    assert str(failure) in str(await problem(response, status))
