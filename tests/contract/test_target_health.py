"""What every TargetHealth does, whatever it is made of: in memory, and the SDK over HTTP to a stand-in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

import pytest

from gateway.adapters.aws.elbv2 import ElbTargetHealth
from gateway.drain.health import GroupAttributes, Membership, TargetState
from gateway.drain.ports import TargetHealth
from gateway.errors import CallError, CallErrorKind
from tests.support.cloud import ADDRESS, PORT, TASK, Cloud, point_at, running
from tests.support.fake_target_health import FakeTargetHealth

OWN = f"{ADDRESS}:{PORT}"
NOWHERE = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/gone/0"


class World(ABC):
    """A port and the means to change what it says, whichever it is."""

    port: TargetHealth
    group: str

    @abstractmethod
    def set(self, state: TargetState | None, target: str = ADDRESS, port: int = PORT) -> None: ...

    @abstractmethod
    def configure(self, attributes: GroupAttributes) -> str: ...

    @abstractmethod
    def deny(self) -> None: ...


class MemoryWorld(World):
    def __init__(self) -> None:
        self.fake = FakeTargetHealth()
        self.port = self.fake
        (self.group,) = self.fake.groups

    def set(self, state: TargetState | None, target: str = ADDRESS, port: int = PORT) -> None:
        self.fake.set(state, target=target, port=port)

    def configure(self, attributes: GroupAttributes) -> str:
        self.fake.attributes_of[self.group] = attributes
        return self.group

    def deny(self) -> None:
        self.fake.fail(CallErrorKind.DENIED)


class CloudWorld(World):
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.port = ElbTargetHealth()
        self.group = cloud.group

    def set(self, state: TargetState | None, target: str = ADDRESS, port: int = PORT) -> None:
        elb, address = self.cloud.elb, (target, port)
        if state is None:
            elb.deregister(self.group, *address)
            self.cloud.clock.advance(3600)
        elif state is TargetState.DRAINING:
            elb.register(self.group, *address)
            elb.deregister(self.group, *address)
        else:
            elb.register(self.group, *address)
            if state is not TargetState.INITIAL:
                elb.set_state(self.group, *address, state)

    def configure(self, attributes: GroupAttributes) -> str:
        group = self.cloud.elb.add_group("other", attributes.delay_s, "TCP" if attributes.network else "HTTPS")
        self.cloud.elb.group(group).termination = attributes.termination
        return group

    def deny(self) -> None:
        self.cloud.endpoints.fail_with = {"elbv2": "AccessDenied", "ecs": "AccessDenied"}


@pytest.fixture(params=["memory", "elbv2"])
async def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    async with running(Cloud()) as cloud:
        point_at(monkeypatch, cloud.endpoints.environment(TASK))
        made = CloudWorld(cloud)
        yield made
        await made.port.close()


async def test_the_own_place_is_a_target_and_its_groups(world: World) -> None:
    assert await world.port.membership() == Membership(ADDRESS, {world.group: PORT}, None)


@pytest.mark.parametrize("state", TargetState)
async def test_every_state_is_told_as_it_is(world: World, state: TargetState) -> None:
    world.set(state)
    health = await world.port.health(world.group, ADDRESS, PORT)
    assert (health.own, health.targets) == (state, {OWN: state})


async def test_an_empty_group_lists_nobody(world: World) -> None:
    health = await world.port.health(world.group, ADDRESS, PORT)
    assert (health.own, health.targets) == (None, {})


async def test_one_call_tells_of_all_targets_two_ports_of_one_address_are_two(world: World) -> None:
    world.set(TargetState.DRAINING)
    world.set(TargetState.HEALTHY, port=PORT + 1)
    world.set(TargetState.INITIAL, target="10.0.0.2")
    health = await world.port.health(world.group, ADDRESS, PORT)
    assert health.own is TargetState.DRAINING
    assert health.targets == {
        OWN: TargetState.DRAINING,
        f"{ADDRESS}:{PORT + 1}": TargetState.HEALTHY,
        f"10.0.0.2:{PORT}": TargetState.INITIAL,
    }
    health = await world.port.health(world.group, ADDRESS, PORT + 1)
    assert health.own is TargetState.HEALTHY


async def test_a_target_that_left_is_nobody(world: World) -> None:
    world.set(TargetState.HEALTHY)
    world.set(TargetState.HEALTHY, target="10.0.0.2")
    world.set(None)
    health = await world.port.health(world.group, ADDRESS, PORT)
    assert (health.own, list(health.targets)) == (None, [f"10.0.0.2:{PORT}"])


@pytest.mark.parametrize(
    "attributes",
    [GroupAttributes(), GroupAttributes(0.0), GroupAttributes(3600.0, True, True), GroupAttributes(9, True)],
)
async def test_the_attributes_of_a_group(world: World, attributes: GroupAttributes) -> None:
    assert await world.port.attributes(world.configure(attributes)) == attributes


async def test_a_group_that_does_not_exist_is_not_found(world: World) -> None:
    with pytest.raises(CallError) as caught:
        await world.port.health(NOWHERE, ADDRESS, PORT)
    assert caught.value.kind is CallErrorKind.NOT_FOUND


async def test_what_is_denied_says_so(world: World) -> None:
    world.deny()
    for call in (world.port.membership(), world.port.attributes(world.group), world.port.health(world.group, "x", 1)):
        with pytest.raises(CallError) as caught:
            await call
        assert caught.value.kind is CallErrorKind.DENIED


async def test_closing_twice_is_harmless(world: World) -> None:
    await world.port.close()
    await world.port.close()
