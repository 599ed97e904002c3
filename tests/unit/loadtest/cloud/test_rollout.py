"""Decisions of a deploy in a stand-in cloud, without sockets: targets of traffic, connections held, throttling."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from gateway.drain.health import TargetState
from gateway.errors import SettingsError
from loadtest.cloud.balancer import Balancer, CrowdedElbv2, takes_traffic
from loadtest.cloud.elbv2 import ElbError, Elbv2
from loadtest.scenario.deploy import DeploySection, FaultsSection, max_held, part

A, B = ("127.0.0.1", 80), ("127.0.0.2", 80)


class FakeClock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(("count", "waves"), [(8, 8), (8, 3), (3, 2), (1, 1), (5, 5)])
def test_each_gateway_is_of_one_wave(count: int, waves: int) -> None:
    parts = [list(range(count)[part(count, waves, wave)]) for wave in range(waves)]
    assert [number for numbers in parts for number in numbers] == list(range(count))
    sizes = {len(numbers) for numbers in parts}
    assert max(sizes) - min(sizes) <= 1


def test_only_healthy_targets_take_traffic() -> None:
    states = {A: TargetState.HEALTHY, B: TargetState.INITIAL, ("c", 1): TargetState.DRAINING}
    assert takes_traffic(states) == [A]


def test_a_group_without_a_healthy_target_fails_open() -> None:
    assert takes_traffic({A: TargetState.UNHEALTHY, B: TargetState.INITIAL}) == [A]
    assert takes_traffic({A: TargetState.DRAINING, B: TargetState.INITIAL}) == []


async def test_the_fleets_are_told_when_the_targets_change_and_only_then() -> None:
    told: list[list[str]] = []

    async def aim(urls: list[str]) -> None:
        told.append(urls)

    subject = Balancer(Elbv2(FakeClock()), 300, aim)
    await subject.register(A, "ws://a")
    await subject.register(B, "ws://b")
    await subject.judge(A, healthy=True)
    await subject.judge(B, healthy=True)
    await subject.judge(B, healthy=True)
    await subject.deregister(A)
    assert told == [[], ["ws://a"], ["ws://a", "ws://b"], ["ws://b"]]
    assert subject.state(A) is TargetState.DRAINING


def calls(others: int, during_s: float = 600.0) -> tuple[int, int]:
    """How many of somebody's own polls, jittered as ours are, were answered, and how many not."""
    clock, chance = FakeClock(), Random(1)
    subject = CrowdedElbv2(clock, others)
    arn = subject.add_group("gateway")
    answered = refused = 0
    while clock.now_s < during_s:
        clock.now_s += 5 * chance.uniform(0.8, 1.2)
        try:
            subject.describe_target_health(arn)
            answered += 1
        except ElbError:
            refused += 1
    return answered, refused


def test_a_gateway_alone_is_not_throttled() -> None:
    # The others take 8 of 10 tokens a second.
    for others in (0, 40):
        answered, refused = calls(others)
        assert answered > 100
        assert refused == 0


def test_two_hundred_others_leave_about_one_poll_in_four() -> None:
    answered, refused = calls(200, during_s=6000)
    assert 0.15 < answered / (answered + refused) < 0.35


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({"old": 8}, 15_000),
        # All at once: eight new ones take all of the eight old ones.
        ({"old": 8, "waves": 1}, 15_000),
        # The last old one: 15,000 × (1 + 1/8)^7.
        ({"old": 8, "waves": 8}, 34_211),
        ({"old": 4, "new": 2}, 60_000),
        # The empty one takes all of the one that goes, and nobody ever holds more.
        ({"old": 8, "waves": 8, "routing": "least_outstanding"}, 15_000),
    ],
)
def test_the_most_that_one_gateway_holds(changes: dict[str, Any], most: int) -> None:
    assert max_held(DeploySection(**changes), 120_000) == most


@pytest.mark.parametrize(
    "subject",
    [
        DeploySection(old=2, waves=3),
        DeploySection(reuse_addresses=True),
        DeploySection(reuse_addresses=True, order="stop-task", old=2, new=3),
        DeploySection(delay_s=60, faults=FaultsSection(reverse_at_s=60)),
        DeploySection(order="spot", faults=FaultsSection(reverse_at_s=10)),
    ],
)
def test_what_does_not_fit_together_is_refused(subject: DeploySection) -> None:
    with pytest.raises(SettingsError, match="deploy"):
        subject.check("a.toml")
