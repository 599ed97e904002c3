"""What `heiwa check` reads of a service and its load balancer on AWS; a running gateway needs none of it.

Amazon ECS: DescribeServices, DescribeTaskDefinition. Elastic Load Balancing: DescribeTargetGroups,
DescribeTargetGroupAttributes, DescribeLoadBalancerAttributes. Application Auto Scaling: DescribeScalingPolicies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.adapters.aws import ecs_metadata
from gateway.adapters.aws.clients import AwsClients
from gateway.adapters.aws.ecs import entries, stop_timeout_s
from gateway.adapters.aws.ecs_deployments import steps_of
from gateway.adapters.aws.ecs_metadata import Identity
from gateway.drain.outlook import ROLLING, Facts, GroupFacts
from gateway.errors import CallError

SCALING = "application-autoscaling"
# Of ECS, where the task definition says nothing.
STOP_TIMEOUT_S = 30.0


class OutlookReader:
    """Use once: `read`, `close`. `groups`: ARNs instead of the service's own."""

    def __init__(self, environment: Mapping[str, str], groups: Sequence[str] = ()) -> None:
        self._environment = environment
        self._groups = groups
        self._clients = AwsClients(environment)
        self._unread: list[CallError] = []

    async def read(self) -> Facts:
        """Everything that may be read; what may not is in `unread`. Never raises CallError."""
        try:
            own = await ecs_metadata.read(self._environment)
        except CallError as error:
            return Facts(unread=[error])
        answer = await self._ask("ecs", "describe_services", own, cluster=own.cluster, services=[own.service])
        service: Mapping[str, Any] = next(iter(answer.get("services", ())), {})
        arns = list(self._groups) or [entry.group for entry in entries(service)]
        definition = await self._ask("ecs", "describe_task_definition", own, taskDefinition=own.definition)
        policies = await self._policies(own)
        cooldowns = [
            float(one["TargetTrackingScalingPolicyConfiguration"].get("ScaleInCooldown", 0))
            for one in policies
            if "TargetTrackingScalingPolicyConfiguration" in one
        ]
        deployment = service.get("deploymentConfiguration", {})
        breaker = deployment.get("deploymentCircuitBreaker", {})
        early = deployment.get("earlySuccessCriteria", {})
        return Facts(
            strategy=deployment.get("strategy", ROLLING) if service else None,
            maximum_percent=int(deployment.get("maximumPercent", 200)),
            minimum_healthy_percent=int(deployment.get("minimumHealthyPercent", 100)),
            circuit_breaker=bool(breaker.get("enable") and breaker.get("rollback")),
            steps=steps_of(service),
            deferred=bool(early.get("enable") and early.get("sourceServiceRevisionCleanup") == "DEFERRED"),
            desired=max(1, int(service.get("desiredCount", 1))),
            stop_timeout_s=_stop_timeout_s(definition, own.container),
            groups=await self._group_facts(own, arns),
            scales=bool(policies),
            scale_in_cooldown_s=min(cooldowns, default=None),
            unread=self._unread,
        )

    async def close(self) -> None:
        """Release connections."""
        await self._clients.close()

    async def _group_facts(self, own: Identity, arns: Sequence[str]) -> tuple[GroupFacts, ...]:
        if not arns:
            return ()
        answer = await self._ask("elbv2", "describe_target_groups", own, TargetGroupArns=list(arns))
        records = {one.get("TargetGroupArn", ""): one for one in answer.get("TargetGroups", ())}
        return tuple([await self._one_group(own, arn, records.get(arn, {})) for arn in arns])

    async def _one_group(self, own: Identity, arn: str, record: Mapping[str, Any]) -> GroupFacts:
        attributes = await self._ask("elbv2", "describe_target_group_attributes", own, TargetGroupArn=arn)
        balancer: Mapping[str, Any] = {}
        for balancer_arn in record.get("LoadBalancerArns", ())[:1]:
            balancer = await self._ask("elbv2", "describe_load_balancer_attributes", own, LoadBalancerArn=balancer_arn)
        return GroupFacts(
            name=arn.rpartition(":targetgroup/")[2].partition("/")[0],
            attributes=_values(attributes),
            health_path=record.get("HealthCheckPath", ""),
            matcher=record.get("Matcher", {}).get("HttpCode", ""),
            balancer=_values(balancer),
        )

    async def _policies(self, own: Identity) -> Sequence[Mapping[str, Any]]:
        resource = f"service/{own.cluster.rpartition('/')[2]}/{own.service}"
        answer = await self._ask(SCALING, "describe_scaling_policies", own, ServiceNamespace="ecs", ResourceId=resource)
        found: Sequence[Mapping[str, Any]] = answer.get("ScalingPolicies", ())
        return found

    async def _ask(self, service: str, operation: str, own: Identity, **parameters: Any) -> Mapping[str, Any]:
        try:
            answer = await self._clients.call(service, operation, own.task, **parameters)
        except CallError as error:
            self._unread.append(error)
            return {}
        found: Mapping[str, Any] = answer
        return found


def _stop_timeout_s(answer: Mapping[str, Any], container: str) -> float | None:
    definition = answer.get("taskDefinition")
    if definition is None:
        return None
    found = stop_timeout_s(definition, container)
    return STOP_TIMEOUT_S if found is None else found


def _values(answer: Mapping[str, Any]) -> dict[str, str]:
    return {one.get("Key", ""): one.get("Value", "") for one in answer.get("Attributes", ())}
