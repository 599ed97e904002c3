"""Commands to devices of this process, on connections without sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest

from gateway.adapters.memory.attempts import MemoryAttempts
from gateway.channels.commands import Command, Outcome, Progress, Settled
from gateway.channels.courier import Courier
from gateway.channels.local import LocalCourier
from gateway.connections.connection import Connection
from gateway.connections.ending import DRAIN
from gateway.protocol.session import command_message
from tests.support.bench import Bench, Recording, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import CLOSE, server_frames

RECEIVES = ("location:write", "command:receive")


class Telling(Recording):
    """Says when a connection ended, as the real session does."""

    def closed(self, connection: Connection) -> None:
        super().closed(connection)
        self.local.closed(connection)

    local: LocalCourier


class Desk:
    """A bench with a courier, and devices that may receive commands."""

    def __init__(self, per_device: int = 16, *flags: str) -> None:
        session = Telling()
        self.bench = Bench(*flags, session=session)
        clock, registry = self.bench.clock, self.bench.hub.registry
        chance = random.Random(1)
        self.local = session.local = LocalCourier(registry, clock, chance, per_device, command_message)
        self.courier = Courier(self.local, None, registry, chance, MemoryAttempts(clock))

    def join(self, name: str = "lamp", device_class: str = "", *scopes: str) -> tuple[Connection, FakeTransport]:
        return self.bench.open(device(name, "acme", *(scopes or RECEIVES), device_class=device_class))

    async def begin(self, name: str = "lamp", args: Any = None, deadline_ms: int = 60_000) -> asyncio.Task[Settled]:
        """Send a command; it is out when this returns."""
        sending = asyncio.create_task(self.courier.send("acme", name, "switch", args, deadline_ms))
        await asyncio.sleep(0)
        return sending


def heard(transport: FakeTransport) -> list[Any]:
    return [
        frame.close_code if frame.opcode == CLOSE else msgspec.json.decode(frame.payload)
        for frame in server_frames(transport.take())
    ]


async def within(waiting: Awaitable[Settled]) -> Settled:
    return await asyncio.wait_for(waiting, 10)


async def test_a_command_goes_out_once_and_its_result_comes_back() -> None:
    desk = Desk()
    connection, transport = desk.join()
    sending = await desk.begin(args={"on": True}, deadline_ms=5000)
    (message,) = heard(transport)
    assert message["id"]
    assert (message["type"], message["name"], message["args"]) == ("command", "switch", {"on": True})
    assert message["deadline_ms"] == 5000
    assert connection.busy
    desk.local.report(connection, message["id"], Progress(50, None))
    desk.local.result(connection, message["id"], Settled(Outcome.DONE, 7))
    desk.local.result(connection, message["id"], Settled(Outcome.DONE, 8))
    assert await within(sending) == Settled(Outcome.DONE, 7)
    assert not connection.busy
    assert heard(transport) == []


async def test_another_device_cannot_answer() -> None:
    desk = Desk()
    lamp, transport = desk.join()
    other, _ = desk.join("other")
    sending = await desk.begin()
    (message,) = heard(transport)
    desk.local.result(other, message["id"], Settled(Outcome.DONE, "forged"))
    desk.local.result(lamp, message["id"], Settled(Outcome.DONE, "true"))
    assert (await within(sending)).value == "true"
    assert not other.busy


async def test_no_result_by_the_deadline_says_what_was_reported_last() -> None:
    desk = Desk()
    connection, transport = desk.join()
    sending = await desk.begin(deadline_ms=50)
    (message,) = heard(transport)
    desk.local.report(connection, message["id"], Progress(40, "heating"))
    assert await within(sending) == Settled(Outcome.TIMED_OUT, progress=Progress(40, "heating"))
    assert not connection.busy
    desk.local.result(connection, message["id"], Settled(Outcome.DONE))
    assert connection.in_flight == 0, "a late result counts for nothing"


async def test_devices_that_cannot_be_sent_anything() -> None:
    desk = Desk()
    assert (await within(desk.courier.send("acme", "lamp", "x", None, 1000))).outcome is Outcome.UNKNOWN
    connection, transport = desk.join("lamp", "", "location:write")
    assert (await within(desk.courier.send("acme", "lamp", "x", None, 1000))).outcome is Outcome.DEAF
    assert (await within(desk.courier.send("other", "lamp", "x", None, 1000))).outcome is Outcome.UNKNOWN
    connection.expect(1)
    connection.leave(DRAIN)
    assert (await within(desk.courier.send("acme", "lamp", "x", None, 100))).outcome is Outcome.GONE_UNSENT
    transport.finish()
    assert (await within(desk.courier.send("acme", "lamp", "x", None, 1000))).outcome is Outcome.OFFLINE


async def test_what_the_class_cannot_take_is_not_sent() -> None:
    desk = Desk()
    _, transport = desk.join("lamp", "esp-idf")
    settled = await within(desk.courier.send("acme", "lamp", "x", "a" * 1000, 1000))
    assert settled.outcome is Outcome.TOO_LARGE
    assert "996" in settled.detail
    assert heard(transport) == []


async def test_what_the_class_can_just_take_is_sent() -> None:
    desk = Desk()
    connection, transport = desk.join("lamp", "esp-idf")
    empty = len(command_message("0" * 36, "switch", "", 60_000))
    room = connection.max_payload_bytes - empty
    sending = await desk.begin(args="a" * room)
    (message,) = heard(transport)
    desk.local.result(connection, message["id"], Settled(Outcome.DONE))
    assert (await within(sending)).outcome is Outcome.DONE
    assert (await within(await desk.begin(args="a" * (room + 1)))).outcome is Outcome.TOO_LARGE


@pytest.mark.parametrize(("greeted", "idempotent"), [(False, False), (True, True)])
async def test_what_needs_a_wait_or_may_be_sent_twice_is_not_begun(greeted: bool, idempotent: bool) -> None:
    desk = Desk()
    _, transport = desk.bench.open(device("lamp", "acme", *RECEIVES), greeted=greeted)
    ended: list[Settled] = []
    assert desk.courier.begin(Command("acme", "lamp", "switch", None, idempotent), 1000, ended.append) is None
    assert heard(transport) == []
    assert ended == []
    assert desk.local.in_flight == 0


async def test_a_device_has_so_many_commands_and_no_more() -> None:
    desk = Desk(per_device=2)
    connection, transport = desk.join()
    first, second = await desk.begin(), await desk.begin()
    assert (await within(desk.courier.send("acme", "lamp", "x", None, 1000))).outcome is Outcome.BUSY
    for message in heard(transport):
        desk.local.result(connection, message["id"], Settled(Outcome.DONE))
    assert {(await within(one)).outcome for one in (first, second)} == {Outcome.DONE}


async def test_a_connection_that_breaks_has_no_result() -> None:
    desk = Desk()
    _, transport = desk.join()
    sending = await desk.begin()
    transport.finish()
    assert await within(sending) == Settled(Outcome.GONE)


async def test_a_drain_waits_a_moment_for_the_result() -> None:
    desk = Desk()
    connection, transport = desk.join()
    sending = await desk.begin()
    (message,) = heard(transport)
    connection.leave(DRAIN)
    assert [told["type"] for told in heard(transport)] == ["goaway"]
    desk.local.result(connection, message["id"], Settled(Outcome.DONE, 1))
    assert heard(transport) == [1001]
    assert (await within(sending)).value == 1


async def test_a_sender_that_gives_up_leaves_nothing_behind() -> None:
    desk = Desk()
    connection, transport = desk.join()
    sending = await desk.begin()
    (message,) = heard(transport)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert connection.in_flight == 0
    desk.local.result(connection, message["id"], Settled(Outcome.DONE))
    assert connection.in_flight == 0


async def test_a_result_in_the_turn_in_which_its_sender_gives_up() -> None:
    desk = Desk()
    connection, transport = desk.join()
    sending = await desk.begin()
    (message,) = heard(transport)
    sending.cancel()
    await asyncio.sleep(0)
    desk.local.result(connection, message["id"], Settled(Outcome.DONE))
    await asyncio.gather(sending, return_exceptions=True)
    assert connection.in_flight == 0


async def test_nothing_is_sent_before_the_first_message(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    connection, transport = desk.bench.open(device("lamp", "acme", *RECEIVES), greeted=False)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        connection.greet()

    with monkeypatch.context() as patch:
        patch.setattr("gateway.channels.courier.asyncio.sleep", sleep)
        sending = asyncio.create_task(desk.courier.send("acme", "lamp", "x", None, 60_000))
        await asyncio.wait({sending}, timeout=0.05)
    assert slept == [1.0]
    (message,) = heard(transport)
    assert message["type"] == "command"
    desk.local.result(connection, message["id"], Settled(Outcome.DONE))
    assert (await within(sending)).outcome is Outcome.DONE


async def test_outcomes_are_counted() -> None:
    desk = Desk()
    await within(desk.courier.send("acme", "lamp", "x", None, 1000))
    (gauge, outcomes) = desk.courier.collect()
    assert [sample.value for sample in gauge.samples] == [0]
    counted = {sample.labels["outcome"]: sample.value for sample in outcomes.samples if sample.name.endswith("_total")}
    assert counted["unknown"] == 1
    assert sum(counted.values()) == 1
