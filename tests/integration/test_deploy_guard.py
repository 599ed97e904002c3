"""`heiwa deploy guard` against the stand-ins of Amazon ECS and CloudWatch: hooks, metrics by revision, permissions."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.aws.guarded import LATE_S, EcsGuarded
from gateway.drain.guard import Action
from gateway.errors import CallError, CallErrorKind
from loadtest.cloud.deployments import CONTINUE, ROLLBACK, STOPPED, SUCCESSFUL, RevisionRecord, ServiceDeployment
from tests.support.cloud import SERVICE, TASK, Cloud, point_at, running

NOW_S = 1_764_374_400.0


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    async with running(Cloud()) as made:
        point_at(monkeypatch, made.endpoints.environment(TASK))
        yield made


def fill(cloud: Cloud, now_s: float, devices: float = 300, our_fault: float = 0) -> None:
    end_s = (now_s - LATE_S) // 60 * 60
    # Two minutes more than are read at `now_s`: the guard may look when the next one has begun.
    for minute in range(-1, 11):
        at_s = end_s - 60 * minute
        for revision, count in (("1", 4000.0), ("2", devices)):
            cloud.endpoints.metrics.put("heiwa_connections", revision, at_s, count)
            cloud.endpoints.metrics.put("heiwa_ack_p99_seconds", revision, at_s, 0.1)
        cloud.endpoints.metrics.put("heiwa_disconnects_our_fault", "2", at_s, our_fault)
        told = {"heiwa_disconnects": 7 + our_fault, "heiwa_disconnects_planned": 7, "heiwa_connections_opened": 40}
        for metric, count in told.items():
            cloud.endpoints.metrics.put(metric, "2", at_s, count)
        cloud.endpoints.metrics.put("heiwa_locations_refused", "1", at_s, 3)


def paused(cloud: Cloud, percent: float = 5) -> tuple[ServiceDeployment, list[str]]:
    made = cloud.deploy(percent)
    told: list[str] = []
    made.stage, made.told = "PRE_PRODUCTION_TRAFFIC_SHIFT", told.append
    made.wait()
    return made, told


async def test_the_port(cloud: Cloud) -> None:
    guarded = EcsGuarded(os.environ, "default", SERVICE, "heiwa", lambda: NOW_S)
    try:
        assert await guarded.state() == (False, None, None)
        made, told = paused(cloud)
        made.hooks[-1].expires_s = NOW_S + 7200
        fill(cloud, NOW_S, our_fault=2)
        state = await guarded.state()
        pause = state.pause
        assert pause is not None
        assert (pause.weight, pause.new, pause.old) == (0.05, "2", "1")
        assert pause.ends == "ROLLBACK at 02:00 UTC"
        found = await guarded.readings("2", 5)
        assert (list(found.devices), list(found.ack_p99_s), found.our_fault) == ([300] * 5, [0.1] * 5, 10)
        assert (found.closed, found.opened) == (10, 200)
        assert (await guarded.readings("1", 5)).events_refused == 15
        assert await guarded.resume(pause, Action.CONTINUE)
        assert not await guarded.resume(pause, Action.ROLLBACK)
        assert told == [CONTINUE]
        assert (await guarded.state()).pause is None
        made.status = SUCCESSFUL
        assert (await guarded.state()).outcome is True
    finally:
        await guarded.close()


async def test_a_service_that_is_none_and_a_hook_that_may_not_be_continued(cloud: Cloud) -> None:
    unknown = EcsGuarded(os.environ, "default", "nobody", "heiwa")
    guarded = EcsGuarded(os.environ, "default", SERVICE, "heiwa")
    try:
        with pytest.raises(CallError) as caught:
            await unknown.state()
        assert caught.value.kind is CallErrorKind.NOT_FOUND
        paused(cloud)
        pause = (await guarded.state()).pause
        assert pause is not None
        cloud.endpoints.fail_with["ecs:ContinueServiceDeployment"] = "AccessDenied"
        with pytest.raises(CallError, match="allow ecs:ContinueServiceDeployment"):
            await guarded.resume(pause, Action.CONTINUE)
    finally:
        await unknown.close()
        await guarded.close()


async def test_figures_that_cloudwatch_does_not_tell_are_no_good_ones(cloud: Cloud) -> None:
    fill(cloud, NOW_S, our_fault=2)
    guarded = EcsGuarded(os.environ, "default", SERVICE, "heiwa", lambda: NOW_S)
    try:
        cloud.endpoints.metrics.page = 3
        found = await guarded.readings("2", 5)
        assert (list(found.devices), found.our_fault, found.closed) == ([300] * 5, 10, 10)
        cloud.endpoints.metrics.broken.add("heiwa_disconnects_our_fault")
        with pytest.raises(CallError, match="heiwa_disconnects_our_fault InternalError"):
            await guarded.readings("2", 5)
    finally:
        await guarded.close()


async def test_a_weight_that_ecs_leaves_out_continues_nothing_bad(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, told = paused(cloud)
    fill(cloud, time.time(), our_fault=50)
    whole = RevisionRecord.summary
    monkeypatch.setattr(RevisionRecord, "summary", lambda self, _: whole(self, None))
    found, out, _ = await command("--dry-run", "--for", "5m")
    assert (found, told) == (1, [])
    assert out.startswith("ROLLBACK: revision 2 against 1")


async def command(*flags: str) -> tuple[int, str, str]:
    whole = [sys.executable, "-m", "gateway", "deploy", "guard", "--cluster", "default", "--service", SERVICE, *flags]
    done = await asyncio.to_thread(subprocess.run, whole, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


async def test_a_dry_run_ends_at_what_it_would_roll_back_and_changes_nothing(cloud: Cloud) -> None:
    _, told = paused(cloud)
    fill(cloud, time.time(), our_fault=50)
    found, out, err = await command("--dry-run", "--for", "5m")
    assert found == 1
    assert out.startswith(f"{ROLLBACK}: revision 2 against 1")
    assert '"event":"guard_decided"' in err.replace(" ", "")
    assert told == []


async def test_a_deployment_that_another_one_stops_is_not_the_end(cloud: Cloud) -> None:
    """A pipeline starts its deployment while the one before still goes on, and the guard may find that one first."""
    guarded = EcsGuarded(os.environ, "default", SERVICE, "heiwa", lambda: NOW_S)
    try:
        first = cloud.deploy(5)
        assert (await guarded.state()).goes_on
        first.status = STOPPED
        second = cloud.deploy(0)
        assert second is not first
        assert await guarded.state() == (True, None, None)
        second.wait()
        assert (await guarded.state()).pause is not None
        second.status = STOPPED
        assert await guarded.state() == (False, None, False)
    finally:
        await guarded.close()


async def test_an_old_copy_that_does_not_know_the_deployment_is_not_its_end(cloud: Cloud) -> None:
    guarded = EcsGuarded(os.environ, "default", SERVICE, "heiwa", lambda: NOW_S)
    try:
        made, _ = paused(cloud)
        assert (await guarded.state()).pause is not None
        known = dict(cloud.ecs.deployments.by_arn)
        for _ in range(2):
            cloud.ecs.deployments.by_arn.clear()
            with pytest.raises(CallError):
                await guarded.state()
        cloud.ecs.deployments.by_arn.update(known)
        made.status = SUCCESSFUL
        assert (await guarded.state()).outcome is True
    finally:
        await guarded.close()


@pytest.mark.parametrize(("flags", "code"), [((), 1), (("--keep",), 0)])
async def test_one_that_is_stopped_has_not_seen_the_deployment_succeed(
    cloud: Cloud, flags: tuple[str, ...], code: int
) -> None:
    paused(cloud)
    whole = [sys.executable, "-m", "gateway", "deploy", "guard", "--cluster", "default", "--service", SERVICE, *flags]
    guard = await asyncio.create_subprocess_exec(*whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert guard.stdout is not None
    async with asyncio.timeout(60):
        assert (await guard.stdout.readline()).startswith(b"WAIT: ")
        guard.terminate()
        _, err = await guard.communicate()
    assert guard.returncode == code
    assert (b"stopped while the deployment goes on" in err) is bool(code)


async def test_what_is_wrong_is_named(cloud: Cloud, tmp_path: Path) -> None:
    assert (await command("--for", "90s"))[0] == 2
    cloud.endpoints.fail_with["ecs:DescribeServices"] = "AccessDenied"
    code, _, err = await command("--dry-run")
    assert code != 0
    assert "ecs:DescribeServices" in err
