"""Commands of clients over their own websockets: every one is answered once, with a result or the reason for none."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.channels.commands import DeviceError, Outcome, Settled
from gateway.channels.senders import Senders, Wish
from gateway.connections.connection import Connection
from gateway.connections.ending import DRAIN
from gateway.protocol.channel_messages import ChannelMessages
from tests.support.bench import Bench, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import CLOSE, server_frames


class Slow:
    """A courier whose commands end when a test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.waiting: list[asyncio.Future[Settled]] = []

    async def send(
        self, account: str, name: str, what: str, args: Any, deadline_ms: int, *, idempotent: bool = False
    ) -> Settled:
        self.sent.append((account, name, what, args, deadline_ms, idempotent))
        self.waiting.append(asyncio.get_running_loop().create_future())
        return await self.waiting[-1]


class Phone:
    """An app on a bench, and the courier behind it."""

    def __init__(self, *scopes: str, maximum: int = 3, device_class: str = "") -> None:
        self.bench = Bench()
        self.courier = Slow()
        self.senders = Senders(self.courier, ChannelMessages(), maximum)  # type: ignore[arg-type]
        self.connection: Connection
        self.transport: FakeTransport
        who = device("phone", "acme", *(scopes or ("command:send",)), device_class=device_class)
        self.connection, self.transport = self.bench.open(who)
        self.transport.take()

    def ask(self, name: str = "1") -> None:
        self.senders.send(self.connection, Wish(name, "lamp", "switch", {"on": True}, 5000, False))

    async def settle(self, number: int, settled: Settled | Exception) -> list[Any]:
        waiter = self.courier.waiting[number]
        if isinstance(settled, Exception):
            waiter.set_exception(settled)
        else:
            waiter.set_result(settled)
        await turns()
        return self.hear()

    def hear(self) -> list[Any]:
        return [
            frame.close_code if frame.opcode == CLOSE else msgspec.json.decode(frame.payload)
            for frame in server_frames(self.transport.take())
        ]


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_result_comes_back_under_the_client_s_own_id() -> None:
    phone = Phone()
    phone.ask("a")
    phone.ask("b")
    await turns()
    assert phone.courier.sent == [("acme", "lamp", "switch", {"on": True}, 5000, False)] * 2
    assert phone.connection.in_flight == 2
    assert await phone.settle(1, Settled(Outcome.DONE, {"on": True})) == [
        {"type": "result", "id": "b", "ok": True, "value": {"on": True}}
    ]
    failed = await phone.settle(0, Settled(Outcome.FAILED, DeviceError("jammed", "the door")))
    assert failed == [{"type": "result", "id": "a", "ok": False, "error": {"code": "jammed", "message": "the door"}}]
    assert phone.connection.in_flight == 0
    phone.ask("a")
    assert phone.hear() == []


@pytest.mark.parametrize("outcome", [each for each in Outcome if each not in (Outcome.DONE, Outcome.FAILED)])
async def test_without_a_result_there_is_the_reason(outcome: Outcome) -> None:
    phone = Phone()
    phone.ask()
    await turns()
    (told,) = await phone.settle(0, Settled(outcome, detail="so it is"))
    assert (told["type"], told["code"], told["id"]) == ("error", outcome.value, "1")
    assert told["message"].endswith("so it is")


async def test_a_result_that_the_client_cannot_read_is_said() -> None:
    phone = Phone(device_class="esp-idf")
    phone.ask()
    await turns()
    (told,) = await phone.settle(0, Settled(Outcome.DONE, "x" * 1000))
    assert (told["code"], told["id"]) == ("result_too_large", "1")


async def test_a_failure_of_ours_is_said_and_harms_no_other() -> None:
    phone = Phone()
    phone.ask()
    await turns()
    (told,) = await phone.settle(0, ValueError("a bug"))
    assert (told["code"], told["id"]) == ("internal", "1")
    phone.ask()
    await turns()
    assert len(phone.courier.sent) == 2


async def test_limits_scope_and_ids() -> None:
    phone = Phone(maximum=2)
    for name in ("a", "a", "b", "c"):
        phone.ask(name)
    assert [(told["id"], told["code"]) for told in phone.hear()] == [("a", "duplicate"), ("c", "too_many")]
    stranger = Phone("location:read")
    stranger.ask()
    assert [told["code"] for told in stranger.hear()] == ["forbidden"]
    assert stranger.courier.sent == []
    await phone.senders.close()


async def test_a_sender_that_is_gone_waits_for_nothing() -> None:
    phone = Phone()
    phone.ask()
    await turns()
    phone.senders.closed(phone.connection)
    await turns()
    assert phone.courier.waiting[0].cancelled()
    assert phone.hear() == []


async def test_a_planned_close_waits_for_the_result() -> None:
    phone = Phone()
    phone.ask()
    await turns()
    phone.connection.leave(DRAIN)
    assert [told["type"] for told in phone.hear()] == ["goaway"]
    result, code = await phone.settle(0, Settled(Outcome.DONE))
    assert (result["type"], code) == ("result", 1001)
