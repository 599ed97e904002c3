"""The own place in a service of Amazon ECS, asked over HTTP, with all kinds of tasks and permissions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.adapters.aws.clients import PATIENT_TIMEOUT_S
from gateway.adapters.aws.elbv2 import ElbTargetHealth
from gateway.drain.health import Membership
from gateway.errors import CallError, CallErrorKind
from loadtest.cloud.ecs_records import ManagedGroup, ServiceLoadBalancer
from tests.support.cloud import ADDRESS, PORT, SERVICE, TASK, Cloud, point_at, running


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    async with running(Cloud()) as made:
        point_at(monkeypatch, made.endpoints.environment(TASK))
        yield made


async def found(*groups: str, target: str = "", port: int = 0) -> Membership:
    adapter = ElbTargetHealth(groups, target, port)
    try:
        return await adapter.membership()
    finally:
        await adapter.close()


async def refused(*groups: str, port: int = 0) -> CallError:
    with pytest.raises(CallError) as caught:
        await found(*groups, port=port)
    return caught.value


async def test_an_awsvpc_task_asks_for_its_service_and_definition_only(cloud: Cloud) -> None:
    cloud.task.stop_timeout_s = 120
    assert await found() == Membership(ADDRESS, {cloud.group: PORT}, 120.0)
    asked = {name for name in cloud.endpoints.requests if name.startswith("ecs:")}
    assert asked == {"ecs:DescribeServices", "ecs:DescribeTaskDefinition"}


async def test_the_first_answer_is_waited_for_longer_than_later_ones(cloud: Cloud) -> None:
    """A gateway that does not know its group would not drain; one that does has polls to go on with."""
    adapter = ElbTargetHealth(call_timeout_s=0.001)
    assert (await adapter.membership()).ports == {cloud.group: PORT}
    async with asyncio.timeout(PATIENT_TIMEOUT_S / 2):
        with pytest.raises(CallError, match="in time"):
            await adapter.membership()
    await adapter.close()


async def test_both_groups_of_a_blue_green_pair_are_watched(cloud: Cloud) -> None:
    other = cloud.elb.add_group("green")
    cloud.ecs.services[SERVICE] = [ServiceLoadBalancer(cloud.group, alternate=other)]
    assert (await found()).ports == {cloud.group: PORT, other: PORT}


async def test_groups_that_ecs_made_for_an_express_service(cloud: Cloud) -> None:
    other = cloud.elb.add_group("green")
    cloud.ecs.services[SERVICE] = []
    cloud.ecs.managed[SERVICE] = [ManagedGroup(cloud.group, alternate=other)]
    assert await found() == Membership(ADDRESS, {cloud.group: PORT, other: PORT})


async def test_groups_of_an_ecs_gateway_have_the_port_that_the_definition_names(cloud: Cloud) -> None:
    cloud.ecs.services[SERVICE] = []
    cloud.task.container_port = 9090
    cloud.ecs.managed[SERVICE] = [ManagedGroup(cloud.group, port_name="web")]
    assert (await found()).ports == {cloud.group: 9090}
    cloud.ecs.managed[SERVICE] = [ManagedGroup(cloud.group, port_name="other")]
    assert (await found(port=8080)).ports == {cloud.group: 8080}


async def test_groups_that_may_be_there_are_told(cloud: Cloud) -> None:
    cloud.ecs.services[SERVICE] = []
    cloud.ecs.managed[SERVICE] = [ManagedGroup(cloud.group, port_name="web")]
    cloud.endpoints.fail_with = {"ecs:DescribeServiceRevisions": "AccessDenied"}
    place = await found()
    assert not place.ports
    assert "allow ecs:DescribeServiceRevisions" in place.hidden
    cloud.ecs.managed[SERVICE] = [ManagedGroup(cloud.group)]
    assert (await refused()).kind is CallErrorKind.DENIED, "an Express service always has some"


async def test_groups_that_ecs_has_not_made_yet(cloud: Cloud) -> None:
    cloud.ecs.services[SERVICE] = []
    cloud.ecs.managed[SERVICE] = [ManagedGroup("")]
    assert "not made" in (await found()).hidden
    cloud.ecs.managed[SERVICE] = []
    assert await found() == Membership(ADDRESS, {})


async def test_a_service_that_names_its_groups_is_asked_for_no_revisions(cloud: Cloud) -> None:
    cloud.ecs.managed[SERVICE] = [ManagedGroup("another")]
    assert (await found()).ports == {cloud.group: PORT}
    assert not cloud.endpoints.requests["ecs:DescribeServiceRevisions"]


@pytest.mark.parametrize(("mode", "port"), [("bridge", 32768), ("host", PORT)])
async def test_without_an_own_address_the_target_is_the_instance(cloud: Cloud, mode: str, port: int) -> None:
    cloud.task.network_mode = mode
    cloud.task.host_port = port
    assert await found() == Membership(cloud.task.instance, {cloud.group: port})


async def test_an_agent_that_does_not_name_the_service(cloud: Cloud) -> None:
    cloud.task.shows_service = False
    assert (await found()).ports == {cloud.group: PORT}
    assert cloud.endpoints.requests["ecs:DescribeTasks"] == 1


async def test_a_task_of_no_service_has_no_groups(cloud: Cloud) -> None:
    cloud.task.service = ""
    assert await found() == Membership(ADDRESS, {})


async def test_a_service_that_went_is_not_found(cloud: Cloud) -> None:
    cloud.ecs.services.clear()
    assert (await refused()).kind is CallErrorKind.NOT_FOUND


async def test_groups_of_a_setting_come_first_their_ports_from_the_service(cloud: Cloud) -> None:
    other = cloud.elb.add_group("other")
    cloud.ecs.services[SERVICE].append(ServiceLoadBalancer(other, port=9090))
    assert (await found(other)).ports == {other: 9090}


async def test_a_group_that_the_service_does_not_know_needs_a_port(cloud: Cloud) -> None:
    other = cloud.elb.add_group("other")
    assert (await found(other, port=9090)).ports == {other: 9090}
    assert "drain.target" in str(await refused(other))


async def test_what_may_not_be_read_is_named(cloud: Cloud) -> None:
    cloud.endpoints.fail_with = {"ecs:DescribeServices": "AccessDenied"}
    error = await refused()
    assert error.kind is CallErrorKind.DENIED
    assert "ecs:DescribeServices" in str(error)
    assert (await found(cloud.group, port=PORT)).ports == {cloud.group: PORT}


async def test_a_port_of_an_instance_is_never_guessed(cloud: Cloud) -> None:
    cloud.task.network_mode = "bridge"
    other = cloud.elb.add_group("other")
    assert (await refused(other, port=PORT)).kind is CallErrorKind.OTHER
    cloud.endpoints.fail_with = {"ecs:DescribeServices": "AccessDenied"}
    assert (await refused(cloud.group, port=PORT)).kind is CallErrorKind.DENIED


async def test_a_port_that_ecs_does_not_know_yet_is_asked_for_again(cloud: Cloud) -> None:
    cloud.task.network_mode = "bridge"
    cloud.task.host_port = 0
    error = await refused()
    assert (error.kind, "yet" in str(error)) == (CallErrorKind.OTHER, True)
    cloud.task.host_port = 32768
    assert (await found()).ports == {cloud.group: 32768}


async def test_settings_that_name_all_need_no_container_service(cloud: Cloud) -> None:
    cloud.endpoints.fail_with = {"ecs": "InternalFailure"}
    assert await found(cloud.group, port=PORT) == Membership(
        ADDRESS, {cloud.group: PORT}, unread=CallErrorKind.UNREACHABLE
    )
    cloud.endpoints.fail_with = {"ecs": "ThrottlingException"}
    assert (await refused(cloud.group, port=PORT)).kind is CallErrorKind.THROTTLED


@pytest.mark.parametrize("code", ["AccessDenied", "ThrottlingException", "InternalFailure", "ClientException"])
async def test_a_definition_that_cannot_be_read_leaves_the_setting(cloud: Cloud, code: str) -> None:
    cloud.task.stop_timeout_s = 120
    cloud.endpoints.fail_with = {"ecs:DescribeTaskDefinition": code}
    place = await found()
    assert (place.stop_timeout_s, place.unread is None) == (None, False)


async def test_what_is_given_is_not_asked_for(cloud: Cloud) -> None:
    assert await found(cloud.group, target="127.0.0.1", port=80) == Membership("127.0.0.1", {cloud.group: 80})
    assert not cloud.endpoints.requests


async def test_nowhere_to_look(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECS_CONTAINER_METADATA_URI_V4")
    assert "drain.target" in str(await refused(cloud.group))


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("InternalFailure", CallErrorKind.UNREACHABLE),
        ("refuse", CallErrorKind.UNREACHABLE),
        ("truncated", CallErrorKind.UNREACHABLE),
        ("proxy", CallErrorKind.UNREACHABLE),
        ("garbage", CallErrorKind.OTHER),
    ],
)
async def test_metadata_that_fails_is_an_error_that_passes(cloud: Cloud, how: str, kind: CallErrorKind) -> None:
    cloud.endpoints.fail_with = {"metadata": how}
    assert (await refused()).kind is kind
    cloud.endpoints.fail_with = {}
    assert (await found()).target == ADDRESS


async def test_the_region_is_in_the_arn_when_no_variable_names_one(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    assert (await found()).ports == {cloud.group: PORT}
