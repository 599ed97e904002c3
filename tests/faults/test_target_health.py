"""A load balancer's API that fails ends in a CallError that names its kind, in bounded time, and passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.adapters.aws.clients import READ_TIMEOUT_S
from gateway.adapters.aws.elbv2 import ElbTargetHealth
from gateway.drain.health import GroupHealth, TargetState
from gateway.errors import CallError, CallErrorKind
from loadtest.cloud.elbv2 import BUCKET_TOKENS
from loadtest.cloud.endpoints import SESSION_TOKEN
from tests.support.cloud import ADDRESS, PORT, TASK, Cloud, point_at, running

KIND = CallErrorKind


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    async with running(Cloud()) as made:
        made.serve()
        point_at(monkeypatch, made.endpoints.environment(TASK, credentials="container"))
        yield made


@pytest.fixture
async def adapter(cloud: Cloud) -> AsyncIterator[ElbTargetHealth]:
    made = ElbTargetHealth()
    yield made
    await made.close()


async def poll(adapter: ElbTargetHealth, cloud: Cloud) -> GroupHealth:
    return await adapter.health(cloud.group, ADDRESS, PORT)


async def failure(adapter: ElbTargetHealth, cloud: Cloud) -> CallError:
    with pytest.raises(CallError) as caught:
        await poll(adapter, cloud)
    return caught.value


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("Throttling", KIND.THROTTLED),
        ("ThrottlingException", KIND.THROTTLED),
        ("AccessDenied", KIND.DENIED),
        ("SignatureDoesNotMatch", KIND.DENIED),
        ("ExpiredToken", KIND.EXPIRED),
        ("TargetGroupNotFound", KIND.NOT_FOUND),
        ("InternalFailure", KIND.UNREACHABLE),
        ("ServiceUnavailable", KIND.UNREACHABLE),
        ("refuse", KIND.UNREACHABLE),
        ("truncated", KIND.UNREACHABLE),
        ("proxy", KIND.UNREACHABLE),
        ("garbage", KIND.OTHER),
        ("NeverHeardOf", KIND.OTHER),
    ],
)
async def test_a_failure_has_its_kind_is_tried_once_and_passes(
    cloud: Cloud, adapter: ElbTargetHealth, how: str, kind: CallErrorKind
) -> None:
    cloud.endpoints.fail_with = {"elbv2": how}
    error = await failure(adapter, cloud)
    assert error.kind is kind
    assert error.__cause__ is not None
    assert SESSION_TOKEN not in str(error)
    # Who polls backs off for the whole fleet: the SDK must not try again by itself.
    assert cloud.endpoints.requests["elbv2:DescribeTargetHealth"] == cloud.endpoints.balancer_calls == 1
    cloud.endpoints.fail_with = {}
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_a_denied_action_is_named(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    cloud.endpoints.fail_with = {"elbv2:DescribeTargetGroupAttributes": "AccessDenied"}
    with pytest.raises(CallError, match="elasticloadbalancing:DescribeTargetGroupAttributes"):
        await adapter.attributes(cloud.group)
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


@pytest.mark.parametrize("service", ["elbv2", "credentials"])
async def test_an_endpoint_that_hangs_is_left_in_time(cloud: Cloud, service: str) -> None:
    adapter = ElbTargetHealth(call_timeout_s=0.05)
    cloud.endpoints.fail_with = {service: "hang"}
    async with asyncio.timeout(5):
        assert (await failure(adapter, cloud)).kind is KIND.UNREACHABLE
    await adapter.close()


async def test_a_connection_that_falls_silent_is_left_in_time(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    await poll(adapter, cloud)
    cloud.endpoints.fail_with = {"elbv2": "hang"}
    async with asyncio.timeout(READ_TIMEOUT_S + 5):
        error = await failure(adapter, cloud)
    assert error.kind is KIND.UNREACHABLE
    assert str(error).endswith("(ReadTimeoutError)")
    cloud.endpoints.fail_with = {}
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_cancelling_a_call_is_harmless(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    cloud.endpoints.fail_with = {"elbv2": "hang"}
    for timeout_s in (0.0, 0.05, 0.5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await poll(adapter, cloud)
    cloud.endpoints.fail_with = {}
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_nobody_listens_then_somebody_does(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    await poll(adapter, cloud)
    await cloud.endpoints.close()
    assert (await failure(adapter, cloud)).kind is KIND.UNREACHABLE
    await cloud.endpoints.start()
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_expired_credentials_are_renewed_from_their_endpoint(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    await poll(adapter, cloud)
    cloud.endpoints.rotate()
    assert (await failure(adapter, cloud)).kind is KIND.EXPIRED
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_credentials_that_are_about_to_expire_are_renewed_before(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    # Less is left than the SDK wants to have, so that it looks for new ones before every call.
    cloud.endpoints.lifetime_s = 60
    await poll(adapter, cloud)
    cloud.endpoints.rotate()
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_an_expired_answer_leaves_other_calls_alone(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    cloud.endpoints.fail_with = {"elbv2:DescribeTargetGroupAttributes": "ExpiredToken"}
    polls = [poll(adapter, cloud) for _ in range(5)]
    *healths, error = await asyncio.gather(*polls, adapter.attributes(cloud.group), return_exceptions=True)
    assert [health.own for health in healths if isinstance(health, GroupHealth)] == [TargetState.HEALTHY] * 5
    assert isinstance(error, CallError)
    assert error.kind is KIND.EXPIRED


async def test_credentials_that_cannot_be_had(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    cloud.endpoints.fail_with = {"credentials": "InternalFailure"}
    assert (await failure(adapter, cloud)).kind in (KIND.EXPIRED, KIND.UNREACHABLE)
    cloud.endpoints.fail_with = {}
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_no_credentials_at_all(cloud: Cloud, adapter: ElbTargetHealth, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
    with monkeypatch.context() as missing:
        missing.delenv(variable)
        error = await failure(adapter, cloud)
    assert error.kind is KIND.DENIED
    assert "role" in str(error)
    # On an instance they may come later than the process.
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_many_pollers_are_throttled_and_served_again(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    for _ in range(int(BUCKET_TOKENS)):
        await poll(adapter, cloud)
    assert (await failure(adapter, cloud)).kind is KIND.THROTTLED
    cloud.clock.advance(0.1)
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_an_invalid_target_is_one_that_is_not_registered(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    cloud.endpoints.fail_with = {"elbv2": "InvalidTarget"}
    assert await poll(adapter, cloud) == GroupHealth(None)


async def test_a_zonal_shift_changes_no_state(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    cloud.elb.group(cloud.group).zonal_shift = True
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY


async def test_one_connection_serves_all_polls(cloud: Cloud, adapter: ElbTargetHealth) -> None:
    for _ in range(5):
        await poll(adapter, cloud)
    assert len(cloud.endpoints.peers["elbv2"]) == 1


async def test_credentials_that_stay_expired_are_looked_for_more_and_more_rarely(cloud: Cloud) -> None:
    adapter = ElbTargetHealth(monotonic_s=cloud.clock.monotonic_s)
    await poll(adapter, cloud)
    cloud.endpoints.fail_with = {"elbv2": "ExpiredToken"}
    for _ in range(20):
        await failure(adapter, cloud)
        cloud.clock.advance(60)
    # At 0, 60, 120, 240 and 480 s and at 960 s, each looked for by the next call; and the first of all.
    assert cloud.endpoints.requests["credentials:get"] == 7
    cloud.endpoints.fail_with = {}
    assert (await poll(adapter, cloud)).own is TargetState.HEALTHY
    await adapter.close()
