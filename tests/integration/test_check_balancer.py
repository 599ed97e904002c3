"""`heiwa check` says what the load balancer says of this process, and what it may not ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.cli import check
from gateway.cli.result import Result
from gateway.drain.outlook import BAD
from gateway.settings.load import load
from loadtest.cloud.deployments import SUCCESSFUL
from tests.support.cloud import ADDRESS, PORT, SERVICE, TASK, Cloud, point_at, running


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    async with running(Cloud()) as made:
        point_at(monkeypatch, made.endpoints.environment(TASK))
        yield made


async def lines(folder: Path, *flags: str) -> list[Result]:
    settings = load(Path("/dev/null"), {}, [f"data.folder={folder}", *flags]).settings
    # The command runs outside of any event loop.
    results = await asyncio.to_thread(check.run, settings)
    return [result for result in results if result.name.startswith("drain")]


async def test_all_is_well(cloud: Cloud, tmp_path: Path) -> None:
    cloud.serve()
    cloud.serve("10.0.0.2")
    cloud.task.stop_timeout_s = 120
    assert await lines(tmp_path) == [
        Result("drain.target", "ok", f"{ADDRESS}; the task's stop time-out is 120 s"),
        Result("drain web", "ok", "deregistration delay 300 s"),
        Result("drain web", "ok", f"{ADDRESS}:{PORT} is healthy, one of 2 targets"),
    ]


async def test_a_target_that_is_not_registered_a_short_delay_and_a_network_load_balancer(
    cloud: Cloud, tmp_path: Path
) -> None:
    network = cloud.elb.add_group("flat", protocol="TCP")
    cloud.elb.set_delay(cloud.group, 20)
    flags = (f"drain.target_group_arns={cloud.group},{network}", f"drain.target={ADDRESS}:{PORT}")
    found = await lines(tmp_path, *flags)
    assert {result.verdict for result in found[1:]} == {"warning"}
    assert [result.name for result in found] == ["drain.target", *["drain web"] * 2, *["drain flat"] * 2]
    assert "not among its 0 targets" in found[2].found
    assert "Network Load Balancer" in found[3].found
    assert all(result.mend for result in found[1:])


@pytest.mark.parametrize(
    ("failing", "name", "named"),
    [
        ("ecs:DescribeServices", "drain.target", "ecs:DescribeServices"),
        ("elbv2:DescribeTargetHealth", "drain web", "elasticloadbalancing:DescribeTargetHealth"),
        ("elbv2:DescribeTargetGroupAttributes", "drain web", "elasticloadbalancing:DescribeTargetGroupAttributes"),
    ],
)
async def test_a_missing_permission_is_named(cloud: Cloud, tmp_path: Path, failing: str, name: str, named: str) -> None:
    cloud.endpoints.fail_with = {failing: "AccessDenied"}
    (wrong,) = [result for result in await lines(tmp_path) if result.verdict == "wrong"]
    assert wrong.name == name
    assert named in wrong.found
    assert "task role" in wrong.mend


async def test_a_stop_timeout_that_may_not_be_read(cloud: Cloud, tmp_path: Path) -> None:
    cloud.serve()
    cloud.endpoints.fail_with = {"ecs:DescribeTaskDefinition": "AccessDenied"}
    place, *others = await lines(tmp_path)
    assert (place.verdict, "drain.stop_timeout_s is 30 s" in place.found) == ("warning", True)
    assert "ecs:DescribeTaskDefinition" in place.mend
    assert {result.verdict for result in others} == {"ok"}


async def test_a_service_without_target_groups(cloud: Cloud, tmp_path: Path) -> None:
    cloud.ecs.services[SERVICE].clear()
    assert [(result.verdict, result.name) for result in await lines(tmp_path)] == [("warning", "drain.target")]


async def test_no_load_balancer(cloud: Cloud, tmp_path: Path) -> None:
    (only,) = await lines(tmp_path, "drain.enabled=false")
    assert (only.name, only.verdict) == ("drain", "ok")
    assert not cloud.endpoints.requests


async def test_a_target_without_a_group_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    [found] = await lines(tmp_path, f"drain.target={ADDRESS}:{PORT}")
    assert (found.verdict, "drain.target_group_arns" in found.found) == (BAD, True)


async def deploy_lines(folder: Path, *flags: str) -> dict[str, Result]:
    settings = load(Path("/dev/null"), {}, [f"data.folder={folder}", *flags]).settings
    results = await asyncio.to_thread(check.run, settings)
    return {result.name: result for result in results if result.name.startswith("deploy")}


async def test_the_next_deploy_is_told(cloud: Cloud, tmp_path: Path) -> None:
    cloud.serve()
    cloud.task.stop_timeout_s = 120
    cloud.ecs.desired, cloud.ecs.scale_in_cooldown_s = 4, 60
    breaker = {"enable": True, "rollback": True}
    early = {"enable": True, "healthyPercent": 100, "sourceServiceRevisionCleanup": "DEFERRED"}
    cloud.ecs.deployment = {
        "strategy": "ROLLING",
        "maximumPercent": 200,
        "minimumHealthyPercent": 100,
        "deploymentCircuitBreaker": breaker,
        "earlySuccessCriteria": early,
    }
    cloud.elb.group(cloud.group).algorithm = "least_outstanding_requests"
    found = await deploy_lines(tmp_path)
    assert {name: line.verdict for name, line in found.items()} == {
        "deploy strategy": "ok",
        "deploy window": "ok",
        "deploy duration": "ok",
        "deploy stop": "ok",
        "deploy routing": "warning",
        "deploy health": "ok",
        "deploy idle": "ok",
        "deploy scale-in": "warning",
        "deploy weights": "ok",
    }
    assert "old tasks drain for 5 min more" in found["deploy duration"].found
    assert "idle time-out 60 s" in found["deploy idle"].found


async def test_a_deployment_that_goes_on_is_told_and_a_missing_permission_is_a_warning(
    cloud: Cloud, tmp_path: Path
) -> None:
    cloud.serve()
    made = cloud.deploy(5)
    assert "5% of new connections" in (await deploy_lines(tmp_path))["deploy weights"].found
    made.status = SUCCESSFUL
    assert (await deploy_lines(tmp_path))["deploy weights"].found == "no deployment goes on"
    cloud.endpoints.fail_with["ecs:DescribeServiceDeployments"] = "AccessDenied"
    found = (await deploy_lines(tmp_path))["deploy weights"]
    assert found.verdict == "warning"
    assert "ecs:DescribeServiceDeployments" in found.found


async def test_what_may_not_be_read_of_the_next_deploy_is_named(cloud: Cloud, tmp_path: Path) -> None:
    cloud.serve()
    cloud.endpoints.fail_with = {"elbv2:DescribeTargetGroups": "AccessDenied"}
    found = await deploy_lines(tmp_path)
    assert "allow elasticloadbalancing:DescribeTargetGroups" in found["deploy"].found
    assert "deploy health" not in found
    cloud.endpoints.fail_with = {"ecs": "AccessDeniedException"}
    assert set(await deploy_lines(tmp_path)) == {"deploy", "deploy weights"}


async def test_outside_of_ecs_there_is_no_deploy_to_tell_of(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ECS_CONTAINER_METADATA_URI_V4")
    flags = (f"drain.target_group_arns={cloud.group}", f"drain.target={ADDRESS}:{PORT}")
    assert not await deploy_lines(tmp_path, *flags)
