"""The stand-in's target groups change their states as Elastic Load Balancing's do."""

from collections.abc import Callable

import pytest

from gateway.drain.health import TargetState
from loadtest.cloud.elbv2 import BUCKET_TOKENS, REGISTRATION_S, ElbError, Elbv2
from tests.support.fake_clock import FakeClock

ONE, TWO = ("10.0.0.1", 8080), ("10.0.0.2", 8080)


class Cloud:
    """A load balancer with one group, on a clock that only the test moves."""

    def __init__(self, delay_s: float = 300, protocol: str = "HTTP") -> None:
        self.clock = FakeClock()
        self.elb = Elbv2(self.clock.monotonic_s)
        self.arn = self.elb.add_group("web", delay_s, protocol)

    def serve(self, *addresses: tuple[str, int]) -> None:
        for address in addresses:
            self.elb.register(self.arn, *address)
            self.elb.set_health(self.arn, *address, healthy=True)

    def told(self, *only: tuple[str, int]) -> dict[tuple[str, int], tuple[str, str]]:
        targets = self.elb.describe_target_health(self.arn, only)
        return {(target.id, target.port): (target.state.value, target.reason) for target in targets}


def test_a_target_is_initial_then_healthy_then_draining_for_the_delay_then_gone() -> None:
    cloud = Cloud(300)
    cloud.elb.register(cloud.arn, *ONE)
    assert cloud.told() == {ONE: ("initial", "Elb.RegistrationInProgress")}
    cloud.clock.advance(REGISTRATION_S)
    assert cloud.told() == {ONE: ("initial", "Elb.InitialHealthChecking")}
    cloud.elb.set_health(cloud.arn, *ONE, healthy=True)
    assert cloud.told() == {ONE: ("healthy", "")}
    began_s = cloud.clock.monotonic_s()
    cloud.elb.deregister(cloud.arn, *ONE)
    cloud.clock.advance(299.9)
    assert cloud.told() == {ONE: ("draining", "Target.DeregistrationInProgress")}
    assert cloud.elb.draining_since(cloud.arn, *ONE) == began_s
    cloud.clock.advance(0.2)
    assert cloud.told() == {}
    assert cloud.elb.draining_since(cloud.arn, *ONE) is None


def test_health_goes_both_ways_and_not_while_draining() -> None:
    cloud = Cloud()
    cloud.elb.register(cloud.arn, *ONE)
    cloud.elb.set_health(cloud.arn, *ONE, healthy=False)
    assert cloud.told() == {ONE: ("unhealthy", "Target.FailedHealthChecks")}
    cloud.elb.set_health(cloud.arn, *ONE, healthy=True)
    cloud.elb.deregister(cloud.arn, *ONE)
    cloud.elb.set_health(cloud.arn, *ONE, healthy=True)
    cloud.elb.set_health(cloud.arn, *TWO, healthy=True)
    assert cloud.elb.states(cloud.arn) == {ONE: TargetState.DRAINING}


def test_deregistering_again_does_not_begin_the_delay_anew() -> None:
    cloud = Cloud(10)
    cloud.serve(ONE)
    cloud.elb.deregister(cloud.arn, *ONE)
    cloud.clock.advance(6)
    cloud.elb.deregister(cloud.arn, *ONE)
    cloud.clock.advance(4)
    assert cloud.elb.states(cloud.arn) == {}
    cloud.elb.deregister(cloud.arn, *ONE)


def test_a_delay_of_zero_shows_no_draining() -> None:
    cloud = Cloud(0)
    cloud.serve(ONE)
    cloud.elb.deregister(cloud.arn, *ONE)
    assert cloud.told() == {}


@pytest.mark.parametrize("delay_s", [-1, 3600.5, float("nan")])
def test_a_delay_out_of_range_is_refused(delay_s: float) -> None:
    cloud = Cloud(3600)
    with pytest.raises(ValueError, match="0 to 3600"):
        cloud.elb.set_delay(cloud.arn, delay_s)
    with pytest.raises(ValueError, match="0 to 3600"):
        cloud.elb.add_group("other", delay_s)


def test_a_changed_delay_counts_from_the_next_deregistration() -> None:
    cloud = Cloud(10)
    cloud.serve(ONE, TWO)
    cloud.elb.deregister(cloud.arn, *ONE)
    cloud.elb.set_delay(cloud.arn, 100)
    cloud.elb.deregister(cloud.arn, *TWO)
    cloud.clock.advance(10)
    assert cloud.elb.states(cloud.arn) == {TWO: TargetState.DRAINING}


def test_registering_a_draining_address_cancels_the_deregistration() -> None:
    cloud = Cloud(10)
    cloud.serve(ONE)
    cloud.elb.deregister(cloud.arn, *ONE)
    cloud.clock.advance(9)
    cloud.elb.register(cloud.arn, *ONE)
    cloud.clock.advance(60)
    assert cloud.told() == {ONE: ("initial", "Elb.InitialHealthChecking")}


def test_registering_a_registered_target_changes_nothing() -> None:
    cloud = Cloud()
    cloud.serve(ONE)
    cloud.elb.register(cloud.arn, *ONE)
    assert cloud.elb.states(cloud.arn) == {ONE: TargetState.HEALTHY}


def test_two_ports_of_one_address_are_two_targets() -> None:
    cloud = Cloud()
    other = (ONE[0], 8081)
    cloud.serve(ONE, other)
    cloud.elb.deregister(cloud.arn, *ONE)
    assert cloud.elb.states(cloud.arn) == {ONE: TargetState.DRAINING, other: TargetState.HEALTHY}


def test_an_unknown_target_is_unused_or_an_error() -> None:
    cloud = Cloud()
    cloud.serve(ONE)
    assert cloud.told(TWO) == {TWO: ("unused", "Target.NotRegistered")}
    cloud.elb.unknown_is_error = True
    with pytest.raises(ElbError) as caught:
        cloud.told(TWO)
    assert caught.value.code == "InvalidTarget"
    assert cloud.told(ONE) == {ONE: ("healthy", "")}


def test_a_group_behind_no_load_balancer_has_unused_targets() -> None:
    cloud = Cloud()
    cloud.serve(ONE)
    cloud.elb.group(cloud.arn).in_use = False
    assert cloud.told() == {ONE: ("unused", "Target.NotInUse")}
    assert cloud.elb.states(cloud.arn) == {ONE: TargetState.HEALTHY}


def test_a_state_can_be_forced() -> None:
    cloud = Cloud(protocol="TCP")
    cloud.serve(ONE)
    cloud.elb.set_state(cloud.arn, *ONE, TargetState.UNHEALTHY_DRAINING)
    assert cloud.told() == {ONE: ("unhealthy.draining", "")}
    assert cloud.elb.group(cloud.arn).network


def test_an_unknown_group_is_an_error() -> None:
    with pytest.raises(ElbError) as caught:
        Cloud().elb.describe_attributes("arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/no/1")
    assert caught.value.code == "TargetGroupNotFound"


def test_all_describe_calls_share_forty_tokens_and_ten_more_a_second() -> None:
    cloud = Cloud()
    calls: list[Callable[[], object]] = [
        cloud.told,
        lambda: cloud.elb.describe_attributes(cloud.arn),
        cloud.elb.describe_groups,
    ]
    for number in range(int(BUCKET_TOKENS)):
        calls[number % 3]()
    with pytest.raises(ElbError) as caught:
        cloud.told()
    assert (caught.value.code, caught.value.status) == ("Throttling", 400)
    cloud.clock.advance(0.1)
    cloud.told()
    with pytest.raises(ElbError):
        cloud.told()
    assert (cloud.elb.calls, cloud.elb.throttled) == (43, 2)
    cloud.clock.advance(3600)
    for _ in range(int(BUCKET_TOKENS)):
        cloud.told()
    with pytest.raises(ElbError):
        cloud.told()


def test_the_driver_of_a_deploy_costs_no_tokens() -> None:
    cloud = Cloud()
    for _ in range(100):
        cloud.serve(ONE)
        cloud.elb.states(cloud.arn)
    assert cloud.elb.calls == 0
