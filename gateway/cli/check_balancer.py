"""The part of `heiwa check` that asks the load balancer and the container service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from random import Random

from gateway.adapters.aws import ecs_metadata
from gateway.adapters.aws.outlook import OutlookReader
from gateway.app.parts import deployments, target_groups, target_health
from gateway.cli.result import Result
from gateway.drain import outlook
from gateway.drain.health import GroupAttributes, Membership, place
from gateway.drain.outlook import BAD, GOOD, WARN
from gateway.drain.ports import TargetHealth
from gateway.errors import CallError, CallErrorKind
from gateway.settings.model import Drain, Settings

POLL_MEND = {
    CallErrorKind.DENIED: 'add the action to the task role, with Resource "*" for elasticloadbalancing:Describe…',
    CallErrorKind.EXPIRED: "renew the credentials",
    CallErrorKind.NOT_FOUND: "correct drain.target_group_arns",
    CallErrorKind.THROTTLED: "try again in a moment",
    CallErrorKind.UNREACHABLE: "let the security group, the route or a VPC endpoint reach the API",
}


def results(settings: Settings) -> Iterator[Result]:
    """What the load balancer says of this process, and what the next deploy will do."""
    health = target_health(settings)
    if health is None:
        yield Result("drain", GOOD, "no load balancer is followed: SIGTERM, SIGUSR1 and the API begin a drain")
        return
    yield from asyncio.run(_target_health(health, settings.drain))
    if ecs_metadata.present(os.environ):
        yield from asyncio.run(_next_deploy(settings))
        yield from asyncio.run(_weights(settings))


async def _next_deploy(settings: Settings) -> list[Result]:
    """What Amazon ECS and the load balancer are set to do when the service is deployed the next time."""
    reader = OutlookReader(os.environ, target_groups(settings))
    try:
        facts = await reader.read()
    finally:
        await reader.close()
    drain, heartbeat_s = settings.drain, settings.connections.heartbeat_s
    close_timeout_s = settings.connections.close_timeout_s
    judged = outlook.judge(facts, drain, heartbeat_s, close_timeout_s, Random(0))  # noqa: S311 - a rehearsal
    found = [Result(f"deploy {one.name}", one.verdict, one.found, one.mend) for one in judged]
    return [*found, *(_poll_failed("deploy", error) for error in facts.unread)]


async def _weights(settings: Settings) -> list[Result]:
    """Whether the deployment of the service can be asked for; without it nothing but the drain is left."""
    asked = deployments(settings)
    if asked is None:
        return []
    name = "deploy weights"
    try:
        found = await asked.deployment()
    except CallError as error:
        return [Result(name, WARN, str(error), POLL_MEND.get(error.kind, ""))]
    finally:
        await asked.close()
    if found is None or found.over:
        return [Result(name, GOOD, "no deployment goes on")]
    weight = "no weights" if found.weight is None else f"{found.weight:.0%} of new connections go to the new revision"
    return [Result(name, GOOD, f"a deployment goes on ({found.stage or 'no stage'}): {weight}")]


async def _target_health(health: TargetHealth, drain: Drain) -> list[Result]:
    try:
        try:
            found = await health.membership()
        except CallError as error:
            return [_poll_failed("drain.target", error)]
        if not found.ports:
            said = f"{found.target} has no target group"
            mend = "set drain.target_group_arns"
            if found.hidden:
                said = f"{said} that can be found: {found.hidden}"
                mend += ", or allow ecs:DescribeServiceRevisions"
            return [Result("drain.target", WARN, said, mend)]
        place = _place(found, drain)
        return [place, *[result for group in found.ports for result in await _group(health, group, found)]]
    finally:
        await health.close()


def _place(found: Membership, drain: Drain) -> Result:
    if found.stop_timeout_s is not None:
        return Result("drain.target", GOOD, f"{found.target}; the task's stop time-out is {found.stop_timeout_s:g} s")
    said = f"{found.target}; drain.stop_timeout_s is {drain.stop_timeout_s:g} s"
    if drain.target:
        return Result("drain.target", GOOD, said)
    mend = "set stopTimeout in the task definition and allow ecs:DescribeTaskDefinition"
    return Result("drain.target", WARN, f"{said}, the task's is not told", mend)


async def _group(health: TargetHealth, group: str, found: Membership) -> list[Result]:
    name = f"drain {group.rpartition(':targetgroup/')[2].partition('/')[0]}"
    port, results = found.ports[group], []
    try:
        results.append(_delay(name, await health.attributes(group)))
    except CallError as error:
        results.append(_poll_failed(name, error))
    try:
        seen = await health.health(group, found.target, port, found.also)
    except CallError as error:
        return [*results, _poll_failed(name, error)]
    if seen.own is None:
        missing = f"{place(found.target, port)} is not among its {len(seen.targets)} targets"
        mend = "nothing to do before the task is registered; else correct drain.target"
        return [*results, Result(name, WARN, missing, mend)]
    return [
        *results,
        Result(name, GOOD, f"{place(found.target, port)} is {seen.own.value}, one of {len(seen.targets)} targets"),
    ]


def _delay(name: str, found: GroupAttributes) -> Result:
    said = f"deregistration delay {found.delay_s:g} s"
    if found.network:
        mend = "long-lived websockets belong behind an Application Load Balancer: see docs/how-to/run-on-ecs.md"
        return Result(name, WARN, f"{said}, of a Network Load Balancer", mend)
    short = found.delay_s < outlook.SHORT_DELAY_S
    return Result(name, WARN if short else GOOD, said, "the drain has to fit into it: 300 s or more" if short else "")


def _poll_failed(name: str, error: CallError) -> Result:
    return Result(name, BAD, str(error), POLL_MEND.get(error.kind, ""))
