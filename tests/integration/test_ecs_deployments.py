"""The deployment of the own service, asked over HTTP: weights, revisions, what each question costs, every error."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from gateway.adapters.aws.clients import READ_TIMEOUT_S
from gateway.adapters.aws.ecs_deployments import EcsDeployments, of
from gateway.drain.deployment import Side, Step, Strategy, side
from gateway.errors import CallError, CallErrorKind
from loadtest.cloud.deployments import ROLLBACK_IN_PROGRESS, ROLLBACK_SUCCESSFUL, SUCCESSFUL
from tests.support.cloud import TASK, Cloud, point_at, running

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    async with running(Cloud()) as made:
        point_at(monkeypatch, made.endpoints.environment(TASK))
        yield made


@pytest.fixture
async def adapter(cloud: Cloud) -> AsyncIterator[EcsDeployments]:
    made = EcsDeployments()
    yield made
    await made.close()


def calls(cloud: Cloud) -> Counter[str]:
    """To ECS, since the last time this was asked."""
    found = Counter({name: count for name, count in cloud.endpoints.requests.items() if name.startswith("ecs:")})
    cloud.endpoints.requests.clear()
    return found


async def test_no_deployment_costs_one_call(cloud: Cloud, adapter: EcsDeployments) -> None:
    assert await adapter.deployment() is None
    assert calls(cloud) == {"ecs:DescribeServices": 1}


@pytest.mark.parametrize("lingers", [True, False])
async def test_a_canary_from_its_first_weight_to_its_end(
    cloud: Cloud, adapter: EcsDeployments, *, lingers: bool
) -> None:
    cloud.ecs.deployments.lingers = lingers
    made = cloud.deploy(5)
    found = await adapter.deployment()
    assert found is not None
    assert (found.strategy, found.weight, found.stage) == (Strategy.CANARY, 0.05, "PRODUCTION_TRAFFIC_SHIFT")
    assert found.steps == (Step(0.05, 600), Step(1.0, 600))
    assert side(found, await adapter.definition(), ()) is Side.SOURCE
    assert calls(cloud) == {
        "ecs:DescribeServices": 1,
        "ecs:DescribeServiceDeployments": 1,
        "ecs:DescribeServiceRevisions": 1,
    }
    cloud.deploy(100).stage = "BAKE_TIME"
    found = await adapter.deployment()
    assert found is not None
    assert found.bakes
    assert calls(cloud) == {"ecs:DescribeServiceDeployments": 1}
    made.status = SUCCESSFUL
    found = await adapter.deployment()
    assert found is not None
    assert found.over
    assert not found.going_back
    assert await adapter.deployment() is None
    cloud.deploy(5)
    found = await adapter.deployment()
    assert found is not None
    assert found.id != made.arn


async def test_a_rollback_is_seen_before_the_weights_are(cloud: Cloud, adapter: EcsDeployments) -> None:
    made = cloud.deploy(5)
    for status, over in ((ROLLBACK_IN_PROGRESS, False), (ROLLBACK_SUCCESSFUL, True)):
        made.status = status
        found = await adapter.deployment()
        assert found is not None
        assert found.going_back
        assert found.over is over


def test_what_a_deployment_would_go_back_to_is_no_rollback() -> None:
    options: dict[str, object] = {"serviceRevisionArn": "arn:aws:ecs:eu-west-1:123456789012:service-revision/c/s/1"}
    for told, going_back in (({}, False), ({"reason": "alarm"}, True), ({"startedAt": NOW}, True)):
        assert of({"status": "IN_PROGRESS", "rollback": options | told}, {}).going_back is going_back


async def test_revisions_of_one_task_definition_are_told_apart_by_their_groups(
    cloud: Cloud, adapter: EcsDeployments
) -> None:
    made = cloud.deploy(5)
    made.target.definition, made.target.group = made.source.definition, "green"
    found = await adapter.deployment()
    assert found is not None
    assert side(found, await adapter.definition(), {cloud.group}) is Side.SOURCE
    assert side(found, await adapter.definition(), {"green"}) is Side.TARGET
    assert side(found, await adapter.definition(), ()) is Side.UNKNOWN


async def test_a_rolling_deploy_has_no_steps_and_its_revisions_are_not_asked_for(
    cloud: Cloud, adapter: EcsDeployments
) -> None:
    made = cloud.deploy(0)
    made.configuration, made.percent = {"strategy": "ROLLING"}, None
    found = await adapter.deployment()
    assert found is not None
    assert (found.strategy, found.steps, found.weight) == (None, (), None)
    assert "ecs:DescribeServiceRevisions" not in calls(cloud)


async def test_a_task_whose_metadata_names_no_service(cloud: Cloud, adapter: EcsDeployments) -> None:
    cloud.task.shows_service = False
    cloud.deploy(5)
    assert await adapter.deployment() is not None
    assert calls(cloud)["ecs:DescribeTasks"] == 1


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("AccessDenied", CallErrorKind.DENIED),
        ("Throttling", CallErrorKind.THROTTLED),
        ("ExpiredToken", CallErrorKind.EXPIRED),
        ("InternalFailure", CallErrorKind.UNREACHABLE),
        ("garbage", CallErrorKind.OTHER),
    ],
)
async def test_every_error_is_one(cloud: Cloud, adapter: EcsDeployments, how: str, kind: CallErrorKind) -> None:
    cloud.deploy(5)
    cloud.endpoints.fail_with["ecs:DescribeServiceDeployments"] = how
    with pytest.raises(CallError) as caught:
        await adapter.deployment()
    assert caught.value.kind is kind
    cloud.endpoints.fail_with.clear()
    assert await adapter.deployment() is not None


async def test_a_slow_answer_is_one(cloud: Cloud, adapter: EcsDeployments) -> None:
    cloud.deploy(5)
    assert await adapter.deployment() is not None
    cloud.endpoints.late_s = READ_TIMEOUT_S + 0.5
    found = await adapter.deployment()
    assert found is not None
    assert found.weight == 0.05


async def test_a_deployment_that_is_gone_is_looked_for_again(cloud: Cloud, adapter: EcsDeployments) -> None:
    cloud.deploy(5)
    assert await adapter.deployment() is not None
    cloud.ecs.deployments.by_arn.clear()
    with pytest.raises(CallError):
        await adapter.deployment()
    assert await adapter.deployment() is None
