"""Commands of clients over their own websockets: every one is answered once, with a result or the reason for none."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.channels.commands import Command, DeviceError, Outcome, Settled
from gateway.channels.local import Done
from gateway.channels.senders import Senders, Wish
from gateway.connections.connection import Connection
from gateway.connections.ending import DRAIN
from gateway.protocol.channel_messages import ChannelMessages
from tests.support.bench import Bench, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import CLOSE, server_frames


class Slow:
    """A courier whose commands end when a test says so. `here`: the device is, so that no wait begins."""

    def __init__(self, here: bool) -> None:
        self.here = here
        self.sent: list[tuple[Any, ...]] = []
        self.waiting: list[asyncio.Future[Settled]] = []

    def begin(self, command: Command, deadline_ms: int, done: Done) -> str | Settled | None:
        if not self.here:
            return None
        if command.device == "deaf":
            return Settled(Outcome.DEAF)
        waiter = self._sent(command, deadline_ms)
        waiter.add_done_callback(lambda ended: None if ended.cancelled() else done(ended.result()))
        return str(len(self.waiting) - 1)

    def give_up(self, name: str) -> None:
        self.waiting[int(name)].cancel()

    async def carry(self, command: Command, deadline_ms: int) -> Settled:
        return await self._sent(command, deadline_ms)

    def _sent(self, command: Command, deadline_ms: int) -> asyncio.Future[Settled]:
        self.sent.append((*command[:4], deadline_ms, command.idempotent))
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]


class Phone:
    """An app on a bench, and the courier behind it."""

    def __init__(self, *scopes: str, maximum: int = 3, device_class: str = "", here: bool = False) -> None:
        self.bench = Bench()
        self.courier = Slow(here)
        self.senders = Senders(self.courier, ChannelMessages(), maximum)  # type: ignore[arg-type]
        self.connection: Connection
        self.transport: FakeTransport
        who = device("phone", "acme", *(scopes or ("command:send",)), device_class=device_class)
        self.connection, self.transport = self.bench.open(who)
        self.transport.take()

    def ask(self, name: str = "1", lamp: str = "lamp") -> None:
        self.senders.send(self.connection, Wish(name, lamp, "switch", {"on": True}, 5000, False))

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


HERE = pytest.mark.parametrize("here", [False, True], ids=["elsewhere", "here"])


@HERE
async def test_the_result_comes_back_under_the_client_s_own_id(here: bool) -> None:
    phone = Phone(here=here)
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


@HERE
@pytest.mark.parametrize("outcome", [each for each in Outcome if each not in (Outcome.DONE, Outcome.FAILED)])
async def test_without_a_result_there_is_the_reason(outcome: Outcome, here: bool) -> None:
    phone = Phone(here=here)
    phone.ask()
    await turns()
    (told,) = await phone.settle(0, Settled(outcome, detail="so it is"))
    assert (told["type"], told["code"], told["id"]) == ("error", outcome.value, "1")
    assert told["message"].endswith("so it is")


@HERE
async def test_a_result_that_the_client_cannot_read_is_said(here: bool) -> None:
    phone = Phone(device_class="esp-idf", here=here)
    phone.ask()
    await turns()
    (told,) = await phone.settle(0, Settled(Outcome.DONE, "x" * 1000))
    assert (told["code"], told["id"]) == ("result_too_large", "1")


async def test_a_result_of_exactly_what_the_client_can_take() -> None:
    phone = Phone(device_class="esp-idf")
    empty = len(ChannelMessages().result("1", Settled(Outcome.DONE, "")))
    room = phone.connection.max_payload_bytes - empty
    for number, (more, kind) in enumerate([(0, "result"), (1, "error")]):
        phone.ask()
        await turns()
        (told,) = await phone.settle(number, Settled(Outcome.DONE, "x" * (room + more)))
        assert told["type"] == kind


async def test_what_cannot_be_sent_is_said_at_once() -> None:
    phone = Phone(here=True)
    phone.ask(lamp="deaf")
    assert [(told["id"], told["code"]) for told in phone.hear()] == [("1", "deaf")]
    assert phone.connection.in_flight == 0


async def test_a_result_that_cannot_be_written_harms_no_device() -> None:
    phone = Phone(here=True)
    phone.ask()
    (told,) = await phone.settle(0, Settled(Outcome.DONE, object()))
    assert (told["code"], told["id"]) == ("internal", "1")


async def test_a_failure_of_ours_is_said_and_harms_no_other() -> None:
    phone = Phone()
    phone.ask()
    await turns()
    (told,) = await phone.settle(0, ValueError("a bug"))
    assert (told["code"], told["id"]) == ("internal", "1")
    phone.ask()
    await turns()
    assert len(phone.courier.sent) == 2


@HERE
async def test_limits_scope_and_ids(here: bool) -> None:
    phone = Phone(maximum=2, here=here)
    for name in ("a", "a", "b", "c"):
        phone.ask(name)
    assert [(told["id"], told["code"]) for told in phone.hear()] == [("a", "duplicate"), ("c", "too_many")]
    stranger = Phone("location:read")
    stranger.ask()
    assert [told["code"] for told in stranger.hear()] == ["forbidden"]
    assert stranger.courier.sent == []
    await phone.senders.close()


@HERE
async def test_a_sender_that_is_gone_waits_for_nothing(here: bool) -> None:
    phone = Phone(here=here)
    phone.ask()
    await turns()
    phone.senders.closed(phone.connection)
    await turns()
    assert phone.courier.waiting[0].cancelled()
    assert phone.hear() == []


@HERE
async def test_a_planned_close_waits_for_the_result(here: bool) -> None:
    phone = Phone(here=here)
    phone.ask()
    await turns()
    phone.connection.leave(DRAIN)
    assert [told["type"] for told in phone.hear()] == ["goaway"]
    result, code = await phone.settle(0, Settled(Outcome.DONE))
    assert (result["type"], code) == ("result", 1001)
