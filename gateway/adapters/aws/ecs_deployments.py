"""The Deployments port on Amazon ECS: which deployment goes on, its weights, and what tells our revision in it.

Amazon ECS API reference (version 2014-11-13), as botocore 1.43 has it. The chain of evidence:

1. Task metadata: our task definition (`Family`, `Revision`), service and cluster.
2. DescribeServices → `currentServiceDeployment`: the ARN of the service deployment; it may be one that is over.
3. DescribeServiceDeployments → `deploymentConfiguration.strategy`, with `linearConfiguration` (`stepPercent`,
   `stepBakeTimeInMinutes`), `canaryConfiguration` (`canaryPercent`, `canaryBakeTimeInMinutes`) and `bakeTimeInMinutes`;
   `sourceServiceRevisions[]` and `targetServiceRevision` with `arn`, `runningTaskCount` and
   `requestedProductionTrafficWeight` (0 to 100, "a snapshot of the traffic distribution"); `lifecycleStage`, `status`.
4. DescribeServiceRevisions of these → `taskDefinition`, and `resolvedConfiguration.loadBalancers[].targetGroupArn`:
   "which target groups serve traffic"; the groups that ECS made stand in `ecsManagedResources`.

No field of DescribeTasks names the service revision. `startedBy` is "the deployment ID of that service"
(`ecs-svc/…`), which nothing documents to be a part of a revision's ARN: it is not believed. So the task definition
decides, and where two revisions share one, the target group that lists us (see `gateway.drain.deployment.side`).

`lifecycleStage` is documented with PRE_PRODUCTION_TRAFFIC_SHIFT, which its enumeration in the model does not have: a
stage that is not known changes nothing here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gateway.adapters.aws import ecs_metadata
from gateway.adapters.aws.clients import PATIENT_TIMEOUT_S, AwsClients
from gateway.adapters.aws.ecs import managed_entries, service_of
from gateway.adapters.aws.ecs_metadata import Identity
from gateway.drain.deployment import MINUTE_S, Deployment, Revision, Step, Strategy, steps
from gateway.errors import CallError, CallErrorKind

# API reference, ServiceDeploymentStatus.
OVER = frozenset({"SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED"})
GOING_BACK = frozenset(
    {
        "STOP_REQUESTED",
        "STOPPED",
        "ROLLBACK_REQUESTED",
        "ROLLBACK_IN_PROGRESS",
        "ROLLBACK_SUCCESSFUL",
        "ROLLBACK_FAILED",
    }
)


class EcsDeployments:
    """One or two calls a question; two more, once, for the revisions of a deployment."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Opens nothing yet."""
        self._environment = environment
        self._clients = AwsClients(environment, PATIENT_TIMEOUT_S)
        self._own: Identity | None = None
        self._service = ""
        self._current = ""
        self._finished = ""
        self._revisions: dict[str, Revision] = {}

    async def definition(self) -> str:
        """See the port."""
        return (await self._identity()).definition

    async def deployment(self) -> Deployment | None:
        """See the port."""
        own = await self._identity()
        if not self._current:
            self._current = await self._find(own)
        if not self._current:
            return None
        answer = await self._clients.call(
            "ecs", "describe_service_deployments", own.task, serviceDeploymentArns=[self._current]
        )
        record: Mapping[str, Any] | None = next(iter(answer.get("serviceDeployments", ())), None)
        if record is None:
            self._current = ""
            raise CallError(CallErrorKind.NOT_FOUND, "Amazon ECS knows no such service deployment")
        if record.get("status") in OVER:
            # The next question is about the next one.
            self._finished, self._current = self._current, ""
        return of(record, await self._described(own, record))

    async def close(self) -> None:
        """See the port."""
        await self._clients.close()

    async def _identity(self) -> Identity:
        if self._own is None:
            self._own = await ecs_metadata.read(self._environment)
        return self._own

    async def _find(self, own: Identity) -> str:
        if not self._service:
            self._service = own.service or await self._started_by_service(own)
        if not self._service:
            return ""
        answer = await self._clients.call(
            "ecs", "describe_services", own.task, cluster=own.cluster, services=[self._service]
        )
        service: Mapping[str, Any] = next(iter(answer.get("services", ())), {})
        found = str(service.get("currentServiceDeployment", ""))
        return "" if found == self._finished else found

    async def _started_by_service(self, own: Identity) -> str:
        answer = await self._clients.call("ecs", "describe_tasks", own.task, cluster=own.cluster, tasks=[own.task])
        return service_of(next(iter(answer.get("tasks", ())), {}))

    async def _described(self, own: Identity, record: Mapping[str, Any]) -> Mapping[str, Revision]:
        """By ARN, what never changes of the revisions. Asked once a deployment, and only for one that moves weights."""
        arns = [arn for one in _revisions(record) if (arn := one.get("arn", ""))]
        if _strategy(record) is None or not set(arns) - set(self._revisions):
            return self._revisions
        answer = await self._clients.call("ecs", "describe_service_revisions", own.task, serviceRevisionArns=arns)
        self._revisions = {one["serviceRevisionArn"]: revision_of(one) for one in answer.get("serviceRevisions", ())}
        return self._revisions


def of(record: Mapping[str, Any], described: Mapping[str, Revision]) -> Deployment:
    """A record of DescribeServiceDeployments, with what is known of its revisions."""
    status = str(record.get("status", ""))
    return Deployment(
        id=str(record.get("serviceDeploymentArn", "")),
        strategy=_strategy(record),
        target=_revision(record.get("targetServiceRevision", {}), described),
        sources=tuple(_revision(one, described) for one in record.get("sourceServiceRevisions", ())),
        steps=steps_of(record),
        stage=str(record.get("lifecycleStage", "")),
        going_back=status in GOING_BACK or _rolls_back(record.get("rollback", {})),
        over=status in OVER,
    )


def _rolls_back(rollback: Mapping[str, Any]) -> bool:
    """ServiceDeployment has it as "the rollback options … when the deployment fails": to have some says nothing yet."""
    return bool(rollback.get("startedAt") or rollback.get("reason"))


def _strategy(record: Mapping[str, Any]) -> Strategy | None:
    try:
        return Strategy(record.get("deploymentConfiguration", {}).get("strategy", ""))
    except ValueError:
        return None


def steps_of(record: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of a record's `deploymentConfiguration`, of a service or of a deployment; none for a rolling one."""
    configuration = record.get("deploymentConfiguration", {})
    strategy = _strategy(record)
    bake_s = float(configuration.get("bakeTimeInMinutes", 0)) * MINUTE_S
    if strategy is Strategy.LINEAR:
        said = configuration.get("linearConfiguration", {})
        return steps(strategy, bake_s, said.get("stepPercent"), _seconds(said.get("stepBakeTimeInMinutes")))
    if strategy is Strategy.CANARY:
        said = configuration.get("canaryConfiguration", {})
        return steps(strategy, bake_s, said.get("canaryPercent"), _seconds(said.get("canaryBakeTimeInMinutes")))
    return steps(strategy, bake_s)


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else minutes * MINUTE_S


def _revisions(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [record.get("targetServiceRevision", {}), *record.get("sourceServiceRevisions", ())]


def _revision(summary: Mapping[str, Any], described: Mapping[str, Revision]) -> Revision:
    arn = str(summary.get("arn", ""))
    known = described.get(arn, Revision(arn))
    percent = summary.get("requestedProductionTrafficWeight")
    weight = None if percent is None else min(1.0, max(0.0, float(percent) / 100))
    return Revision(arn, weight, summary.get("runningTaskCount"), known.definition, known.groups)


def revision_of(revision: Mapping[str, Any]) -> Revision:
    resolved = revision.get("resolvedConfiguration", {}).get("loadBalancers", ())
    groups = {one.get("targetGroupArn", "") for one in resolved} - {""}
    groups = groups or {entry.group for entry in managed_entries(revision, {}, 0)}
    definition = str(revision.get("taskDefinition", "")).rpartition("/")[2]
    return Revision(str(revision.get("serviceRevisionArn", "")), None, None, definition, frozenset(groups))
