"""Commands under idempotency keys, over gateways that share what became of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.memory.attempts import MemoryAttempts
from gateway.channels import keyed
from gateway.channels.commands import Command, DeviceError, Outcome, Progress, Settled
from gateway.channels.keyed import Keyed
from gateway.errors import BrokerDownError, KeyReusedError
from tests.support.gateways import DEADLINE_S


class Faulty(MemoryAttempts):
    """Away as long as `problem` says why."""

    problem = ""

    async def claim(self, *arguments: Any) -> Any:
        self._check()
        return await super().claim(*arguments)

    async def settle(self, *arguments: Any) -> None:
        self._check()
        await super().settle(*arguments)

    def _check(self) -> None:
        if self.problem:
            raise BrokerDownError(self.problem)


class Desk:
    """Two gateways' desks, and a device that settles what it is sent when it is told to."""

    def __init__(self) -> None:
        self.attempts = Faulty(SystemClock())
        self.one, self.two = Keyed(self.attempts), Keyed(self.attempts)
        self.sent: list[asyncio.Future[Settled]] = []

    async def _send(self) -> Settled:
        self.sent.append(asyncio.get_running_loop().create_future())
        return await self.sent[-1]

    def ask(self, at: Keyed, key: str = "k", sender: str = "app", deadline_ms: int = 5000, **what: Any) -> Any:
        command = Command(
            what.get("account", "acme"), what.get("device", "lamp"), "switch", what.get("args", {"on": 1})
        )
        return asyncio.create_task(at.send(key, sender, command, deadline_ms, self._send))

    async def sends(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.sent) < count:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0)


async def within(asking: Any) -> Settled:
    return await asyncio.wait_for(asking, DEADLINE_S)


@pytest.mark.parametrize(
    "settled",
    [
        Settled(Outcome.DONE, {"on": [1, "平和", None]}),
        Settled(Outcome.FAILED, DeviceError("jammed", "the door")),
        Settled(Outcome.TIMED_OUT, progress=Progress(40, None)),
        Settled(Outcome.GONE, detail="it may have been carried out"),
    ],
)
async def test_whoever_asks_gets_the_one_result(settled: Settled) -> None:
    desk = Desk()
    first, during = desk.ask(desk.one), desk.ask(desk.two)
    await desk.sends(1)
    desk.sent[0].set_result(settled)
    assert await within(first) == await within(during) == await within(desk.ask(desk.two)) == settled
    assert len(desk.sent) == 1


async def test_another_command_under_the_same_key_is_refused() -> None:
    desk = Desk()
    asking = desk.ask(desk.one)
    await desk.sends(1)
    for other in (desk.ask(desk.two, args={"on": 0}), desk.ask(desk.one, deadline_ms=6000)):
        with pytest.raises(KeyReusedError):
            await within(other)
    desk.sent[0].set_result(Settled(Outcome.DONE))
    await within(asking)
    with pytest.raises(KeyReusedError):
        await within(desk.ask(desk.one, args=None))


@pytest.mark.parametrize("other", [{"sender": "b"}, {"account": "b"}, {"device": "b"}, {"key": "b"}])
async def test_a_key_is_one_senders_for_one_device(other: dict[str, Any]) -> None:
    desk = Desk()
    both = [desk.ask(desk.one), desk.ask(desk.one, **other)]
    await desk.sends(2)
    for number, sent in enumerate(desk.sent):
        sent.set_result(Settled(Outcome.DONE, number))
    assert {(await within(one)).value for one in both} == {0, 1}


async def test_above_the_maximum_nothing_is_sent_and_the_key_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed, "MAX_UNDER_WAY", 1)
    desk = Desk()
    first = desk.ask(desk.one, key="a")
    await desk.sends(1)
    assert (await within(desk.ask(desk.one, key="b"))).outcome is Outcome.BUSY
    assert len(desk.sent) == 1
    desk.sent[0].set_result(Settled(Outcome.DONE))
    await within(first)
    again = desk.ask(desk.one, key="b")
    await desk.sends(2)
    desk.sent[1].set_result(Settled(Outcome.DONE))
    assert (await within(again)).outcome is Outcome.DONE


@pytest.mark.parametrize("outcome", [Outcome.OFFLINE, Outcome.UNKNOWN, Outcome.BUSY, Outcome.UNREACHABLE])
async def test_what_was_not_sent_may_be_asked_for_again(outcome: Outcome) -> None:
    desk = Desk()
    asking = desk.ask(desk.one)
    await desk.sends(1)
    desk.sent[0].set_result(Settled(outcome))
    assert (await within(asking)).outcome is outcome
    again = desk.ask(desk.two)
    await desk.sends(2)
    desk.sent[1].set_result(Settled(Outcome.DONE))
    assert (await within(again)).outcome is Outcome.DONE


async def test_a_sender_that_hangs_up_finds_its_result() -> None:
    desk = Desk()
    asking = desk.ask(desk.one)
    await desk.sends(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    again = desk.ask(desk.two)
    desk.sent[0].set_result(Settled(Outcome.DONE, 7))
    assert (await within(again)).value == 7
    assert len(desk.sent) == 1


async def test_an_attempt_whose_gateway_died_ends_with_the_deadline() -> None:
    desk = Desk()
    asking = desk.ask(desk.one, deadline_ms=200)
    await desk.sends(1)
    asking.cancel()
    await desk.one.close()
    settled = await within(desk.ask(desk.two, deadline_ms=200))
    assert settled.outcome is Outcome.TIMED_OUT
    assert len(desk.sent) == 1


async def test_without_the_broker_nothing_is_sent() -> None:
    desk = Desk()
    desk.attempts.problem = "burns"
    with pytest.raises(BrokerDownError, match="burns"):
        await within(desk.ask(desk.one))
    assert desk.sent == []


async def test_a_result_is_kept_once_the_broker_is_back() -> None:
    desk = Desk()
    asking = desk.ask(desk.one)
    await desk.sends(1)
    desk.attempts.problem = "burns"
    desk.sent[0].set_result(Settled(Outcome.DONE, 7))
    await asyncio.sleep(0)
    desk.attempts.problem = ""
    assert (await within(desk.ask(desk.two))).value == 7
    assert (await within(asking)).value == 7


async def test_keys_are_bounded() -> None:
    attempts = MemoryAttempts(SystemClock(), maximum=3)
    for number in range(3):
        await attempts.claim(str(number), b"", 60_000)
    with pytest.raises(BrokerDownError, match="3 idempotency keys"):
        await attempts.claim("4", b"", 60_000)
    assert len(attempts) == 3
