"""The answers of an Amazon ECS stand-in about services and tasks: API and task metadata, as dicts; no sockets.

Amazon ECS API reference (version 2014-11-13) and developer guide, "task metadata endpoint version 4".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.cloud.deployments import ServiceDeployments, UnknownError
from loadtest.cloud.place import ACCOUNT, REGION

AWSVPC = "awsvpc"
_THROTTLED = frozenset({"DescribeServices", "DescribeServiceDeployments", "DescribeServiceRevisions"})
ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"


class EcsError(Exception):
    """An answer that is an error."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(slots=True)
class ServiceLoadBalancer:
    """A load balancer of a service: `alternate` is the other target group of a blue/green pair."""

    group: str
    alternate: str = ""
    container: str = "gateway"
    port: int = 8080


@dataclass(slots=True)
class ManagedGroup:
    """A target group that ECS made: of an Express service's ingress path, or of an ECS gateway (`port_name`)."""

    group: str
    alternate: str = ""
    port: int = 8080
    port_name: str = ""


@dataclass(slots=True)
class EcsTask:
    """A task with one container. `shows_service`: its metadata has `ServiceName`, as agents before 1.63.1 do not."""

    id: str
    service: str = ""
    address: str = "10.0.0.1"
    network_mode: str = AWSVPC
    container: str = "gateway"
    container_port: int = 8080
    host_port: int = 0
    instance: str = "i-0123456789abcdef0"
    stop_timeout_s: float | None = None
    shows_service: bool = True
    revision: int = 1


@dataclass(slots=True)
class Ecs:
    """One cluster. `scale` is the number of simulated seconds in a real one; seconds in answers are divided by it."""

    cluster: str = "default"
    scale: float = 1.0
    services: dict[str, list[ServiceLoadBalancer]] = field(default_factory=dict)
    tasks: dict[str, EcsTask] = field(default_factory=dict)
    # By service. One that is named here has a service revision.
    managed: dict[str, list[ManagedGroup]] = field(default_factory=dict)
    # Of all services: `deploymentConfiguration`, `desiredCount`, and the cooldown of scaling in (None: no scaling).
    deployment: dict[str, Any] = field(default_factory=dict)
    desired: int = 1
    scale_in_cooldown_s: int | None = None
    deployments: ServiceDeployments = field(default_factory=ServiceDeployments)

    def add_task(self, task: EcsTask) -> EcsTask:
        """Make a task known; its service need not exist."""
        self.tasks[task.id] = task
        return task

    def answer(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of an API action. Raises EcsError."""
        handlers = {
            "DescribeServices": self._services,
            "DescribeServiceRevisions": self._revisions,
            "DescribeServiceDeployments": self.deployments.describe,
            "ContinueServiceDeployment": self._continue,
            "DescribeTasks": self._tasks,
            "DescribeTaskDefinition": self._definition,
            "DescribeContainerInstances": self._instances,
        }
        if action not in handlers:
            raise EcsError("UnknownOperationException", action)
        if request.get("cluster", self.cluster).rpartition("/")[2] != self.cluster:
            raise EcsError("ClusterNotFoundException", "Cluster not found.")
        if action in _THROTTLED and not self.deployments.take():
            raise EcsError("ThrottlingException", "Rate exceeded")
        return handlers[action](request)

    def _continue(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self.deployments.go_on(request)
        except UnknownError as problem:
            raise EcsError(problem.code, str(problem)) from problem

    def scaling_policies(self) -> dict[str, Any]:
        """The answer of Application Auto Scaling's DescribeScalingPolicies, for each service."""
        if self.scale_in_cooldown_s is None:
            return {"ScalingPolicies": []}
        tracking = {"TargetValue": 4000.0, "ScaleInCooldown": self.scale_in_cooldown_s}
        policy = {"PolicyName": "connections", "PolicyType": "TargetTrackingScaling"}
        return {"ScalingPolicies": [{**policy, "TargetTrackingScalingPolicyConfiguration": tracking}]}

    def container_metadata(self, task: EcsTask) -> dict[str, Any]:
        """What `${ECS_CONTAINER_METADATA_URI_V4}` answers."""
        network: dict[str, Any] = {"NetworkMode": task.network_mode}
        if task.network_mode != "host":
            key = "IPv6Addresses" if ":" in task.address else "IPv4Addresses"
            network[key] = [task.address if task.network_mode == AWSVPC else "172.17.0.2"]
        record = {
            "DockerId": f"{task.id}-2531612879",
            "Name": task.container,
            "DockerName": task.container,
            "Image": "heiwa-gateway:latest",
            "Labels": {"com.amazonaws.ecs.task-arn": self._arn(task)},
            "DesiredStatus": "RUNNING",
            "KnownStatus": "RUNNING",
            "Type": "NORMAL",
            "ContainerARN": f"{ARN}:container/{self.cluster}/{task.id}/{task.container}",
            "Networks": [network],
        }
        if task.host_port:
            port = {"ContainerPort": task.container_port, "Protocol": "tcp", "HostPort": task.host_port}
            record["Ports"] = [port]
        return record

    def task_metadata(self, task: EcsTask) -> dict[str, Any]:
        """What `${ECS_CONTAINER_METADATA_URI_V4}/task` answers."""
        record = {
            "Cluster": f"{ARN}:cluster/{self.cluster}",
            "TaskARN": self._arn(task),
            "Family": "gateway",
            "Revision": str(task.revision),
            "DesiredStatus": "RUNNING",
            "KnownStatus": "RUNNING",
            "LaunchType": "FARGATE" if task.network_mode == AWSVPC else "EC2",
            "Containers": [self.container_metadata(task)],
        }
        if task.service and task.shows_service:
            record["ServiceName"] = task.service
        return record

    def _arn(self, task: EcsTask) -> str:
        return f"{ARN}:task/{self.cluster}/{task.id}"

    def _services(self, request: Mapping[str, Any]) -> dict[str, Any]:
        names = [name.rpartition("/")[2] for name in request.get("services", ())]
        return {
            "services": [self._service(name) for name in names if name in self.services],
            "failures": _missing([name for name in names if name not in self.services], "service"),
        }

    def _service(self, name: str) -> dict[str, Any]:
        balancers = []
        for one in self.services[name]:
            record: dict[str, Any] = {
                "targetGroupArn": one.group,
                "containerName": one.container,
                "containerPort": one.port,
            }
            if one.alternate:
                record["advancedConfiguration"] = {"alternateTargetGroupArn": one.alternate}
            balancers.append(record)
        arn = f"{ARN}:service/{self.cluster}/{name}"
        record = {"serviceArn": arn, "serviceName": name, "status": "ACTIVE", "loadBalancers": balancers}
        record |= {"deploymentConfiguration": self.deployment, "desiredCount": self.desired}
        if (named := self.deployments.named(name)) is not None:
            record["currentServiceDeployment"] = named.arn
        if name in self.managed:
            ingress = any(not one.port_name for one in self.managed[name])
            record["resourceManagementType"] = "ECS" if ingress else "CUSTOMER"
            record["currentServiceRevisions"] = [{"arn": f"{ARN}:service-revision/{self.cluster}/{name}/7"}]
        return record

    def _revisions(self, request: Mapping[str, Any]) -> dict[str, Any]:
        arns = {arn: arn.split("/")[-2] for arn in request.get("serviceRevisionArns", ())}
        found = self.deployments.revisions(list(arns))
        managed = [self._revision(arn, name) for arn, name in arns.items() if name in self.managed]
        return {"serviceRevisions": found or managed}

    def _revision(self, arn: str, name: str) -> dict[str, Any]:
        resources: dict[str, Any] = {}
        for one in self.managed[name]:
            if one.port_name:
                balancer = {"targetGroupArn": one.group, "alternateTargetGroupArn": one.alternate}
                connection = {"portName": one.port_name, "resources": {"hostSharedAlb": [balancer]}}
                resources.setdefault("gatewayConnections", []).append(connection)
            else:
                groups = [{"arn": group, "port": one.port} for group in (one.group, one.alternate) if group]
                resources.setdefault("ingressPaths", []).append({"targetGroups": groups})
        return {"serviceRevisionArn": arn, **({"ecsManagedResources": resources} if resources else {})}

    def _tasks(self, request: Mapping[str, Any]) -> dict[str, Any]:
        ids = [name.rpartition("/")[2] for name in request.get("tasks", ())]
        return {
            "tasks": [self._task(self.tasks[id]) for id in ids if id in self.tasks],
            "failures": _missing([id for id in ids if id not in self.tasks], "task"),
        }

    def _task(self, task: EcsTask) -> dict[str, Any]:
        container: dict[str, Any] = {"name": task.container, "lastStatus": "RUNNING"}
        if task.host_port:
            binding = {"bindIP": "0.0.0.0", "containerPort": task.container_port, "hostPort": task.host_port}
            container["networkBindings"] = [binding]
        record = {
            "taskArn": self._arn(task),
            "group": f"service:{task.service}" if task.service else "family:gateway",
            "containers": [container],
        }
        if task.network_mode != AWSVPC:
            record["containerInstanceArn"] = f"{ARN}:container-instance/{self.cluster}/{task.instance}-held"
        return record

    def _definition(self, request: Mapping[str, Any]) -> dict[str, Any]:
        containers: dict[str, dict[str, Any]] = {}
        for task in self.tasks.values():
            port = {"name": "web", "containerPort": task.container_port}
            record = containers.setdefault(task.container, {"name": task.container, "portMappings": [port]})
            if task.stop_timeout_s is not None:
                record["stopTimeout"] = task.stop_timeout_s / self.scale
        return {
            "taskDefinition": {"family": "gateway", "revision": 1, "containerDefinitions": list(containers.values())}
        }

    def _instances(self, request: Mapping[str, Any]) -> dict[str, Any]:
        held = {f"{task.instance}-held": task.instance for task in self.tasks.values()}
        ids = [arn.rpartition("/")[2] for arn in request.get("containerInstances", ())]
        return {
            "containerInstances": [{"ec2InstanceId": held[id]} for id in ids if id in held],
            "failures": _missing([id for id in ids if id not in held], "container-instance"),
        }


def _missing(names: Sequence[str], what: str) -> list[dict[str, str]]:
    return [{"arn": f"{ARN}:{what}/{name}", "reason": "MISSING"} for name in names]
