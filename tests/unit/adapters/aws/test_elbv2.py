"""What is read out of Elastic Load Balancing's answers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gateway.adapters.aws.clients import region_of
from gateway.adapters.aws.elbv2 import attributes_of, health_of, to_be_watched
from gateway.drain.health import GroupAttributes, GroupHealth, TargetState
from gateway.errors import CallError, CallErrorKind

GROUP = "arn:aws-cn:elasticloadbalancing:cn-north-1:123456789012:targetgroup/web/0123456789abcdef"


def line(state: str, reason: str = "", id: str = "10.0.0.1", port: int | None = 8080, **more: Any) -> dict[str, Any]:
    target: dict[str, Any] = {"Id": id} if port is None else {"Id": id, "Port": port}
    health = {"State": state, "Reason": reason} if reason else {"State": state}
    return {"Target": target, "HealthCheckPort": "8080", "TargetHealth": health, **more}


def health(*lines: dict[str, Any]) -> GroupHealth:
    return health_of({"TargetHealthDescriptions": list(lines)}, "10.0.0.1", 8080)


@pytest.mark.parametrize("state", TargetState)
def test_every_state_is_known(state: TargetState) -> None:
    assert health(line(state.value)).own is state


def test_an_unused_target_is_nobody_only_when_it_is_not_registered() -> None:
    assert health(line("unused", "Target.NotRegistered")) == GroupHealth(None)
    for reason in ("Target.NotInUse", "Target.InvalidState", "Target.IpUnusable"):
        assert health(line("unused", reason)).own is TargetState.UNUSED


def test_a_state_of_later_versions_drains_nobody() -> None:
    assert health(line("hibernating")).own is TargetState.UNAVAILABLE


def test_zonal_shifts_and_anomalies_are_no_states() -> None:
    shift = {"State": "zonal_shift_active", "Reason": "AdministrativeOverride.ZonalShiftActive"}
    anomaly = {"Result": "anomalous", "MitigationInEffect": "yes"}
    told = line("healthy", AdministrativeOverride=shift, AnomalyDetection=anomaly)
    assert health(told).own is TargetState.HEALTHY


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_address_that_is_listed_twice_is_the_new_target(order: tuple[int, int]) -> None:
    lines = [line("draining", "Target.DeregistrationInProgress"), line("initial", "Elb.RegistrationInProgress")]
    assert health(*(lines[place] for place in order)).own is TargetState.INITIAL


@pytest.mark.parametrize(
    ("own", "listed"),
    [
        ("2001:db8::7", "2001:0db8:0000:0000:0000:0000:0000:0007"),
        ("2001:db8::7", "2001:DB8::7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::1.2.3.4", "::102:304"),
    ],
)
def test_an_address_is_the_same_in_any_spelling(own: str, listed: str) -> None:
    answer = {"TargetHealthDescriptions": [line("draining", id=listed), line("healthy", id="2001:db8::70")]}
    assert health_of(answer, own, 8080).own is TargetState.DRAINING
    assert health_of(answer, "10.0.0.9", 8080, (own,)).own is TargetState.DRAINING
    assert health_of(answer, own, 808).own is None


def test_the_address_of_either_stack_is_the_own_one() -> None:
    answer = {"TargetHealthDescriptions": [line("healthy", id="2001:db8::7"), line("draining", id="10.0.0.2")]}
    assert health_of(answer, "10.0.0.1", 8080).own is None
    assert health_of(answer, "10.0.0.1", 8080, ("2001:DB8::7",)).own is TargetState.HEALTHY


def test_a_target_without_a_port_is_listed() -> None:
    assert health(line("healthy", port=None)).targets == {"10.0.0.1:0": TargetState.HEALTHY}


def test_an_answer_without_lines_lists_nobody() -> None:
    assert health_of({}, "10.0.0.1", 8080) == GroupHealth(None)


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({}, GroupAttributes(300.0)),
        ({"deregistration_delay.timeout_seconds": "0"}, GroupAttributes(0.0)),
        ({"deregistration_delay.connection_termination.enabled": "false"}, GroupAttributes(300.0, network=True)),
        ({"deregistration_delay.connection_termination.enabled": "true"}, GroupAttributes(300.0, True, True)),
        ({"load_balancing.algorithm.type": "round_robin"}, GroupAttributes()),
    ],
)
def test_attributes(attributes: dict[str, str], found: GroupAttributes) -> None:
    answer = {"Attributes": [{"Key": key, "Value": value} for key, value in attributes.items()]}
    assert attributes_of(answer) == found


def test_a_delay_that_is_no_number_is_an_error() -> None:
    with pytest.raises(CallError) as caught:
        attributes_of({"Attributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "soon"}]})
    assert caught.value.kind is CallErrorKind.OTHER


@pytest.mark.parametrize(
    ("environment", "arns", "region"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}, (GROUP,), "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, (GROUP,), "us-east-1"),
        ({}, ("", "no arn", GROUP), "cn-north-1"),
        ({}, (), None),
    ],
)
def test_the_region(environment: dict[str, str], arns: tuple[str, ...], region: str | None) -> None:
    assert region_of(environment, *arns) == region


def test_who_has_a_load_balancer_to_ask() -> None:
    assert to_be_watched([GROUP], {})
    assert to_be_watched([], {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x"})
    assert not to_be_watched([], {})


def test_the_sdk_is_loaded_with_the_first_call() -> None:
    code = (
        "import sys, gateway.adapters.aws.elbv2 as e;e.ElbTargetHealth(['x'], 'y', 1); print('botocore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False"]
