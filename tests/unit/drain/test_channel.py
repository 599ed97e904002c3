"""`drain`: one frame a second of every gateway's figures, for operators."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.drain.channel import CHANNEL, FORGET_S, DrainChannel
from gateway.drain.figures import MAX_LISTED, Figures, Frame, Frames, shown
from gateway.drain.leaving import Origin
from tests.support.bench import Bench
from tests.support.channels import FakeSubscriber, Hall


class Office(Hall):
    """A gateway called `a` and the operators who watch it."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.bench.drainer.settle()
        self.channel = DrainChannel(self.bench.drainer, None, self.fanout, "a", self.clock)

    async def watch(self, slot: int = 0, *scopes: str) -> FakeSubscriber:
        operator = self.join(slot, "acme", *(scopes or ("admin",)))
        self.subscribing.subscribe(operator, "drain", None)
        await self.settle()
        return operator

    def hear_of(self, name: str, number: int, state: str = "serving", remaining: int = 0) -> None:
        """Another gateway tells of itself."""
        self.fanout.receive(CHANNEL, Frames({name: Frame(number, Figures(state, 10, remaining))}))


def _told(operator: FakeSubscriber) -> list[Any]:
    return [message.get("data", message.get("snapshot", message.get("code"))) for message in operator.hear()]


async def test_a_frame_a_second_of_this_gateway() -> None:
    office = Office()
    office.bench.open()
    operator = await office.watch()
    serving = {"gateway": "a", "state": "serving", "connections": 1, "remaining": 1}
    (first,) = _told(operator)
    assert (first["gateways"], first["leaving"], first["listed"]) == (1, 0, [serving])
    office.bench.drainer.order(Origin.API, 60)
    office.bench.drainer.turn()
    office.channel.tell()
    (second,) = _told(operator)
    assert (second["leaving"], second["connections"], second["remaining"]) == (1, 1, 1)
    assert second["listed"][0] | {"state": "draining", "origin": "api", "seconds_left": 60.0} == second["listed"][0]


async def test_other_gateways_are_told_with_our_own_frame_and_forgotten_when_they_are_gone() -> None:
    office = Office()
    operator = await office.watch()
    _told(operator)
    office.hear_of("b", 2, "draining", 7)
    office.hear_of("b", 1, "serving")
    assert _told(operator) == []
    office.channel.tell()
    (told,) = _told(operator)
    assert [(each["gateway"], each["state"]) for each in told["listed"]] == [("a", "serving"), ("b", "draining")]
    assert (told["gateways"], told["leaving"], told["remaining"]) == (2, 1, 7)
    office.clock.advance(FORGET_S + 1)
    office.channel.tell()
    (told,) = _told(operator)
    assert [each["gateway"] for each in told["listed"]] == ["a"]


async def test_it_is_for_operators_of_every_account_and_nobody_else() -> None:
    office = Office()
    assert _told(await office.watch(0, "location:read", "device:read")) == ["forbidden"]
    operator = office.join(1, "other", "admin")
    office.subscribing.subscribe(operator, "drain", None)
    await office.settle()
    assert [message["type"] for message in operator.hear()] == ["subscribed"]
    office.subscribing.subscribe(operator, "drain:a", None)
    assert _told(operator) == ["not_found"]


async def test_where_nobody_watches_nothing_is_told() -> None:
    office = Office()
    office.channel.tell()
    assert office.neighbours.told == []
    office.neighbours.wanted_elsewhere.add(CHANNEL)
    office.channel.tell()
    assert office.neighbours.told == [("publish", CHANNEL)]


def test_the_figures_of_a_large_fleet_fit_a_frame() -> None:
    busy = Figures("draining", 20_000, 12_345, "target_health", 7_655, 123.456, 66.667, 71, 12_345)
    fleet = {f"ip-10-0-{number:03}-255.internal.{number:08x}": busy for number in range(200)}
    fleet["a"] = Figures("serving", 5, 5)
    told = shown(fleet)
    assert (told["gateways"], len(told["listed"])) == (201, MAX_LISTED)
    assert told["leaving"] == 200
    assert len(msgspec.json.encode(told)) < 16_000
    assert all(each["state"] == "draining" for each in told["listed"])
