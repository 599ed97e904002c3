"""Service deployments and revisions of an Amazon ECS stand-in, with weights, stages and pause hooks; no sockets.

Amazon ECS API reference (version 2014-11-13, as in botocore 1.43): DescribeServiceDeployments,
DescribeServiceRevisions, ContinueServiceDeployment; developer guide, "Pause hooks for Amazon ECS service deployments".

Documented by AWS: the fields, the stages and their order, that PRE_PRODUCTION_TRAFFIC_SHIFT comes before each step of a
linear or canary deployment and may have a PAUSE hook, that a hook is continued by its `hookId` once, that the weights
are "a snapshot". Reported by others (kayac/ecspresso #945), and so played here: that `currentServiceDeployment` still
names the last deployment once it is over. Inferred: that a rollback sets the weights back at once and then removes the
new tasks, that a new deployment stops the one that goes on, and what throttles the calls.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.drain.deployment import Strategy
from loadtest.cloud.elbv2 import Bucket
from loadtest.cloud.place import ACCOUNT, REGION

ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
# Amazon ECS API reference, "Request throttling": reads of services, a burst and a sustained rate.
READ_TOKENS = 100.0
READ_REFILL_PER_S = 20.0
IN_PROGRESS, SUCCESSFUL, STOPPED = "IN_PROGRESS", "SUCCESSFUL", "STOPPED"
ROLLBACK_IN_PROGRESS, ROLLBACK_SUCCESSFUL = "ROLLBACK_IN_PROGRESS", "ROLLBACK_SUCCESSFUL"
AWAITING, SUCCEEDED, FAILED = "AWAITING_ACTION", "SUCCEEDED", "FAILED"
CONTINUE, ROLLBACK = "CONTINUE", "ROLLBACK"


class UnknownError(Exception):
    """No such deployment, or a hook that waits for nobody; `code` as ECS sends it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class RevisionRecord:
    """A service revision: `number` is the last part of its ARN, `group` its target group. `tasks` are running."""

    number: int
    service: str
    cluster: str = "default"
    definition: str = "gateway:1"
    group: str = ""
    tasks: int = 1

    @property
    def arn(self) -> str:
        return f"{ARN}:service-revision/{self.cluster}/{self.service}/{self.number}"

    def summary(self, percent: float | None) -> dict[str, Any]:
        """As a deployment lists it; a rolling one (`percent` None) has no weights."""
        found: dict[str, Any] = {"arn": self.arn, "runningTaskCount": self.tasks, "requestedTaskCount": self.tasks}
        return found if percent is None else {**found, "requestedProductionTrafficWeight": percent}

    def record(self) -> dict[str, Any]:
        """As DescribeServiceRevisions gives it."""
        balancers = [{"targetGroupArn": self.group}] if self.group else []
        return {
            "serviceRevisionArn": self.arn,
            "taskDefinition": f"{ARN}:task-definition/{self.definition}",
            "resolvedConfiguration": {"loadBalancers": balancers},
        }


@dataclass(slots=True)
class Hook:
    """A pause that waits for a person, or a guard."""

    stage: str
    id: str = field(default_factory=lambda: f"ecs-pause-{uuid.uuid4().hex}")
    status: str = AWAITING
    # Seconds since the Unix epoch, as JSON protocols of AWS have times.
    expires_s: float | None = None

    def record(self) -> dict[str, Any]:
        found = {"hookId": self.id, "targetType": "PAUSE", "status": self.status, "timeoutAction": ROLLBACK}
        return found if self.expires_s is None else {**found, "expiresAt": self.expires_s}


@dataclass(slots=True)
class ServiceDeployment:
    """One deployment. `percent` is the weight of the new revision; None: a rolling one."""

    source: RevisionRecord
    target: RevisionRecord
    configuration: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:21])
    percent: float | None = 0.0
    stage: str = "PRE_SCALE_UP"
    status: str = IN_PROGRESS
    hooks: list[Hook] = field(default_factory=list)
    # Called with the action of a continued hook.
    told: Callable[[str], None] | None = None

    @property
    def arn(self) -> str:
        return f"{ARN}:service-deployment/{self.target.cluster}/{self.target.service}/{self.id}"

    @property
    def goes_on(self) -> bool:
        return self.status in (IN_PROGRESS, ROLLBACK_IN_PROGRESS)

    def wait(self) -> Hook:
        """Pause at the current stage."""
        self.hooks.append(Hook(self.stage))
        return self.hooks[-1]

    def record(self) -> dict[str, Any]:
        """As DescribeServiceDeployments gives it."""
        rest = None if self.percent is None else 100 - self.percent
        found: dict[str, Any] = {
            "serviceDeploymentArn": self.arn,
            "serviceArn": f"{ARN}:service/{self.target.cluster}/{self.target.service}",
            "clusterArn": f"{ARN}:cluster/{self.target.cluster}",
            "sourceServiceRevisions": [self.source.summary(rest)],
            "targetServiceRevision": self.target.summary(self.percent),
            "status": self.status,
            "lifecycleStage": self.stage,
            "deploymentConfiguration": self.configuration,
        }
        if self.hooks:
            found["lifecycleHookDetails"] = [self.hooks[-1].record()]
        if self.status.startswith("ROLLBACK"):
            found["rollback"] = {"reason": "asked for", "serviceRevisionArn": self.source.arn}
        return found


@dataclass(slots=True)
class ServiceDeployments:
    """Those of one cluster, by ARN; the newest last. `now_s` is the clock of the throttle; None: nothing is throttled.

    `lingers`: a service names its last deployment when that is over, too. `calls` counts the reads of deployments and
    of the service, throttled ones too.
    """

    now_s: Callable[[], float] | None = None
    by_arn: dict[str, ServiceDeployment] = field(default_factory=dict)
    lingers: bool = True
    calls: int = 0
    _bucket: Bucket | None = None

    def add(self, deployment: ServiceDeployment) -> ServiceDeployment:
        """Begin one."""
        self.by_arn[deployment.arn] = deployment
        return deployment

    def current(self, service: str) -> ServiceDeployment | None:
        """The one that goes on."""
        found = [one for one in self.by_arn.values() if one.target.service == service and one.goes_on]
        return found[-1] if found else None

    def named(self, service: str) -> ServiceDeployment | None:
        """The one that the service names."""
        last = [one for one in self.by_arn.values() if one.target.service == service][-1:] if self.lingers else []
        return self.current(service) or next(iter(last), None)

    def take(self) -> bool:
        """Whether the throttle lets one more read pass."""
        self.calls += 1
        if self.now_s is None:
            return True
        if self._bucket is None:
            self._bucket = Bucket(self.now_s(), READ_TOKENS, READ_REFILL_PER_S)
        return self._bucket.take(self.now_s())

    def describe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """DescribeServiceDeployments."""
        arns = list(request.get("serviceDeploymentArns", ()))
        return {
            "serviceDeployments": [self.by_arn[arn].record() for arn in arns if arn in self.by_arn],
            "failures": [{"arn": arn, "reason": "MISSING"} for arn in arns if arn not in self.by_arn],
        }

    def revisions(self, arns: list[str]) -> list[dict[str, Any]]:
        """The records of DescribeServiceRevisions that are known here."""
        known = {one.arn: one for each in self.by_arn.values() for one in (each.source, each.target)}
        return [known[arn].record() for arn in arns if arn in known]

    def go_on(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """ContinueServiceDeployment. Raises UnknownError: no such deployment, or its hook does not wait."""
        found = self.by_arn.get(str(request.get("serviceDeploymentArn", "")))
        if found is None:
            raise UnknownError("ServiceDeploymentNotFoundException", "Service deployment not found.")
        waiting = next((one for one in found.hooks if one.id == request.get("hookId")), None)
        if waiting is None or waiting.status != AWAITING or found.status != IN_PROGRESS:
            raise UnknownError("ConflictException", "The hook is not awaiting an action.")
        action = str(request.get("action", CONTINUE))
        waiting.status = SUCCEEDED if action == CONTINUE else FAILED
        if found.told is not None:
            found.told(action)
        return {"serviceDeploymentArn": found.arn}


def configuration(strategy: Strategy, bake_s: float, percent: float, lasts_s: float) -> dict[str, Any]:
    """A `deploymentConfiguration`; ECS counts whole minutes."""
    found: dict[str, Any] = {"strategy": strategy.value, "bakeTimeInMinutes": round(bake_s / 60)}
    if strategy is Strategy.LINEAR:
        found["linearConfiguration"] = {"stepPercent": percent, "stepBakeTimeInMinutes": round(lasts_s / 60)}
    elif strategy is Strategy.CANARY:
        found["canaryConfiguration"] = {"canaryPercent": percent, "canaryBakeTimeInMinutes": round(lasts_s / 60)}
    return found
