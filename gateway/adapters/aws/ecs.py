"""What Amazon ECS says of a task: its service's target groups, its address and port there, and its stop time-out.

Amazon ECS API reference (version 2014-11-13): DescribeServices, DescribeServiceRevisions, DescribeTasks,
DescribeContainerInstances, DescribeTaskDefinition. Answers are dicts with the API's names.

A service names its target groups in `loadBalancers`, in `taskSets`, or, where ECS itself makes them (Express services,
services behind an ECS gateway), in the `ecsManagedResources` of its service revisions only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.adapters.aws import ecs_metadata
from gateway.adapters.aws.clients import AwsClients
from gateway.adapters.aws.ecs_metadata import Identity
from gateway.drain.health import Membership
from gateway.errors import CallError, CallErrorKind

SERVICE_PREFIX = "service:"


class Entry(NamedTuple):
    """A target group of a service, and the container and port of the task that it sends to."""

    group: str
    container: str
    port: int


def entries(service: Mapping[str, Any]) -> list[Entry]:
    """All target groups of a service, both of a blue/green pair, each once.

    With the external and CodeDeploy controllers the groups in use stand in the task sets.
    """
    found: dict[str, Entry] = {}
    for part in (service, *service.get("taskSets", ())):
        for balancer in part.get("loadBalancers", ()):
            alternate = balancer.get("advancedConfiguration", {}).get("alternateTargetGroupArn", "")
            for group in filter(None, (balancer.get("targetGroupArn", ""), alternate)):
                entry = Entry(group, balancer.get("containerName", ""), int(balancer.get("containerPort", 0)))
                found.setdefault(group, entry)
    return list(found.values())


def managed_entries(revision: Mapping[str, Any], definition: Mapping[str, Any], fallback: int) -> list[Entry]:
    """The target groups that ECS made for a service revision, each once.

    Of a gateway's only the name of the port is known, which the task definition explains; `fallback` where it does not.
    """
    resources = revision.get("ecsManagedResources", {})
    found: dict[str, Entry] = {}
    for path in resources.get("ingressPaths", ()):
        for group in path.get("targetGroups", ()):
            if arn := group.get("arn", ""):
                found.setdefault(arn, Entry(arn, "", int(group.get("port", fallback))))
    for connection in resources.get("gatewayConnections", ()):
        port = container_port(definition, connection.get("portName", "")) or fallback
        for balancer in connection.get("resources", {}).get("hostSharedAlb", ()):
            for key in ("targetGroupArn", "alternateTargetGroupArn"):
                if arn := balancer.get(key, ""):
                    found.setdefault(arn, Entry(arn, "", port))
    return list(found.values())


def container_port(definition: Mapping[str, Any], name: str) -> int:
    """The port that a task definition gives a name; 0: none."""
    for container in definition.get("containerDefinitions", ()):
        for mapping in container.get("portMappings", ()):
            if name and mapping.get("name") == name:
                return int(mapping.get("containerPort", 0))
    return 0


def host_port(task: Mapping[str, Any], container: str, port: int) -> int:
    """The port of the instance that leads to a container's port; 0: none does, or ECS does not know yet."""
    for one in task.get("containers", ()):
        if one.get("name") == container:
            for binding in one.get("networkBindings", ()):
                if binding.get("containerPort") == port:
                    return int(binding.get("hostPort", 0))
    return 0


def service_of(task: Mapping[str, Any]) -> str:
    """The name of the service that started a task; "" for a task without one."""
    group = str(task.get("group", ""))
    return group.removeprefix(SERVICE_PREFIX) if group.startswith(SERVICE_PREFIX) else ""


def stop_timeout_s(definition: Mapping[str, Any], container: str) -> float | None:
    """The time-out of a container; None: the platform's default (30 s)."""
    for one in definition.get("containerDefinitions", ()):
        if one.get("name") == container and "stopTimeout" in one:
            return float(one["stopTimeout"])
    return None


class EcsService:
    """The place of this process's task in its service."""

    def __init__(
        self, clients: AwsClients, environment: Mapping[str, str], groups: Sequence[str] = (), port: int = 0
    ) -> None:
        """`groups`: ARNs to watch instead of the service's. `port`: the container's, for a task with an address of its
        own whose service does not name one (0: none); an instance's port only ECS knows."""
        self._clients = clients
        self._environment = environment
        self._groups = groups
        self._port = port

    async def membership(self) -> Membership:
        """See the port TargetHealth. Up to five calls; a permission that is missing is named."""
        own = await ecs_metadata.read(self._environment)
        task: Mapping[str, Any] = {}
        if not own.service or not own.address:
            task = await self._task(own)
        target = own.address or await self._instance(own, task)
        fallback = self._port if own.address and self._groups else 0
        found, hidden = await self._entries(own, own.service or service_of(task), fallback)
        ports = self._ports(found, own, task, fallback)
        try:
            return Membership(target, ports, await self._stop_timeout_s(own), also=own.also, hidden=hidden)
        except CallError as error:
            # Nothing else depends on it, and there is a default.
            return Membership(target, ports, unread=error.kind, also=own.also, hidden=hidden)

    def _ports(self, found: Iterable[Entry], own: Identity, task: Mapping[str, Any], fallback: int) -> dict[str, int]:
        as_is = bool(own.address) or own.network_mode == ecs_metadata.HOST
        named = {entry.group: entry.port if as_is else host_port(task, entry.container, entry.port) for entry in found}
        if 0 in named.values() and not as_is:
            raise CallError(CallErrorKind.OTHER, "Amazon ECS does not know the instance's port of the task yet")
        if not self._groups:
            return named
        ports = {group: named.get(group, fallback) for group in self._groups}
        if 0 in ports.values():
            problem = (
                "the service does not tell the port in a target group of drain.target_group_arns: set drain.target"
            )
            raise CallError(CallErrorKind.OTHER, problem)
        return ports

    async def _entries(self, own: Identity, service: str, fallback: int) -> tuple[list[Entry], str]:
        """And why there may be others (Membership.hidden)."""
        if not service:
            return [], ""
        try:
            answer = await self._ask(own, "describe_services", services=[service])
        except CallError as error:
            # Groups and a port that are set need no look-up.
            if error.kind in (CallErrorKind.DENIED, CallErrorKind.UNREACHABLE) and fallback:
                return [], ""
            raise
        record = _first(answer, "services", f"service {service}")
        found = entries(record)
        return (found, "") if found or self._groups else await self._managed(own, record)

    async def _managed(self, own: Identity, service: Mapping[str, Any]) -> tuple[list[Entry], str]:
        """The target groups that ECS made for a service which names none."""
        revisions = [one["arn"] for one in service.get("currentServiceRevisions", ()) if one.get("arn")]
        made_by_ecs = service.get("resourceManagementType") == "ECS"
        if not revisions:
            return [], "it is an Express service, and has no service revision yet" if made_by_ecs else ""
        try:
            answer = await self._clients.call(
                "ecs", "describe_service_revisions", own.task, serviceRevisionArns=revisions
            )
        except CallError as error:
            # Most services without a load balancer have none of ECS's either.
            if error.kind is CallErrorKind.DENIED and not made_by_ecs:
                return [], str(error)
            raise
        records = answer.get("serviceRevisions", ())
        connected = any(one.get("ecsManagedResources", {}).get("gatewayConnections") for one in records)
        definition = await self._definition(own) if connected else {}
        found = {entry.group: entry for one in records for entry in managed_entries(one, definition, self._port)}
        missing = not found and any(one.get("ecsManagedResources") for one in records)
        return list(found.values()), "Amazon ECS has not made its target groups yet" if missing else ""

    async def _task(self, own: Identity) -> Mapping[str, Any]:
        return _first(await self._ask(own, "describe_tasks", tasks=[own.task]), "tasks", "task")

    async def _instance(self, own: Identity, task: Mapping[str, Any]) -> str:
        instance = task.get("containerInstanceArn", "")
        answer = await self._ask(own, "describe_container_instances", containerInstances=[instance])
        return str(_first(answer, "containerInstances", "container instance").get("ec2InstanceId", ""))

    async def _stop_timeout_s(self, own: Identity) -> float | None:
        return stop_timeout_s(await self._definition(own), own.container)

    async def _definition(self, own: Identity) -> Mapping[str, Any]:
        if not own.definition:
            return {}
        answer = await self._clients.call("ecs", "describe_task_definition", own.task, taskDefinition=own.definition)
        found: Mapping[str, Any] = answer.get("taskDefinition", {})
        return found

    async def _ask(self, own: Identity, operation: str, **parameters: Any) -> Any:
        return await self._clients.call("ecs", operation, own.task, cluster=own.cluster, **parameters)


def _first(answer: Mapping[str, Any], key: str, what: str) -> Mapping[str, Any]:
    """The only record of an answer. What is missing is no error of ECS's: it stands in `failures`."""
    records: Iterator[Mapping[str, Any]] = iter(answer.get(key, ()))
    found = next(records, None)
    if found is None:
        raise CallError(CallErrorKind.NOT_FOUND, f"Amazon ECS knows no such {what}")
    return found
