"""Tasks of Amazon ECS that are run as jobs, without sockets: client tokens, room in clusters, states.

API reference 2014-11-13, and "Ensuring idempotency": a client token counts in its cluster for 24 hours, or for an hour
behind the end of its task if that is earlier; with other parameters it is a ConflictException.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loadtest.cloud.job_limits import Buckets, JobsError
from loadtest.cloud.place import ACCOUNT, REGION

TOKEN_S, TOKEN_BEHIND_END_S = 86_400.0, 3_600.0
SHOWN_S = 3_600.0
MAX_DESCRIBED = 100
_BEFORE = ("PROVISIONING", "PENDING", "ACTIVATING")


@dataclass(slots=True)
class TaskDefinition:
    """A revision with one container of its family's name."""

    family: str
    revision: int
    command: list[str]

    @property
    def arn(self) -> str:
        """As AWS forms them."""
        return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{self.family}:{self.revision}"


@dataclass(slots=True)
class JobTask:
    """`environment` and `command` are what RunTask overrides."""

    id: str
    cluster: str
    definition: TaskDefinition
    started_by: str
    overrides: dict[str, Any]
    created_s: float
    status: str = "PROVISIONING"
    desired: str = "RUNNING"
    reason: str = ""
    stop_code: str = ""
    exit_code: int | None = None
    ended_s: float | None = None

    @property
    def arn(self) -> str:
        """As AWS forms them."""
        return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{self.cluster}/{self.id}"

    @property
    def _override(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = self.overrides.get("containerOverrides") or [{}]
        return found[0]

    @property
    def command(self) -> list[str]:
        """The override's, else the definition's."""
        return list(self._override.get("command") or self.definition.command)

    @property
    def environment(self) -> dict[str, str]:
        """What was overridden."""
        return {str(one["name"]): str(one["value"]) for one in self._override.get("environment") or ()}


@dataclass(slots=True)
class _Token:
    asked: str
    task: str
    since_s: float


@dataclass(slots=True)
class Cluster:
    """Room for so many tasks."""

    name: str
    room: int = 16


class EcsJobs:
    """`now_s` is a monotonic clock."""

    def __init__(self, now_s: Callable[[], float], rate_per_s: float = 0.0) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.definitions: dict[str, list[TaskDefinition]] = {}
        self.tasks: dict[str, JobTask] = {}
        self.unwanted: list[str] = []
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._now_s = now_s
        self._buckets = Buckets(now_s, rate_per_s, "ThrottlingException", 400)

    def add_cluster(self, name: str, room: int = 16) -> Cluster:
        """A new one."""
        self.clusters[name] = Cluster(name, room)
        return self.clusters[name]

    def add_definition(self, family: str, command: list[str]) -> TaskDefinition:
        """A new revision."""
        revisions = self.definitions.setdefault(family, [])
        revisions.append(TaskDefinition(family, len(revisions) + 1, command))
        return revisions[-1]

    def answer(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What an operation (`RunTask`, …) answers. Raises JobsError."""
        self._buckets.take(operation)
        match operation:
            case "RunTask":
                return self._run(body)
            case "ListTasks":
                return self._list(body)
            case "DescribeTasks":
                return self._describe(body)
            case "StopTask":
                return self._stop(body)
            case "DescribeClusters":
                names = [_short(name) for name in body.get("clusters") or ["default"]]
                known = [{"clusterName": name, "status": "ACTIVE"} for name in names if name in self.clusters]
                return {
                    "clusters": known,
                    "failures": [{"arn": name, "reason": "MISSING"} for name in names if name not in self.clusters],
                }
            case "DescribeTaskDefinition":
                found = self._definition(str(body.get("taskDefinition", "")))
                return {
                    "taskDefinition": {
                        "family": found.family,
                        "revision": found.revision,
                        "taskDefinitionArn": found.arn,
                        "containerDefinitions": [{"name": found.family, "essential": True}],
                    }
                }
        raise JobsError("InvalidParameterException", f"no such operation: {operation}")

    def _run(self, body: Mapping[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(body)
        token = str(body.get("clientToken") or "")
        if len(token) > 64:
            raise JobsError("InvalidParameterException", "clientToken is longer than 64 characters")
        asked = json.dumps({key: value for key, value in body.items() if key != "clientToken"}, sort_keys=True)
        kept = self._kept(cluster.name, token)
        if kept is not None:
            if kept.asked != asked:
                raise JobsError(
                    "ConflictException", "The provided clientToken is already in use with a different request"
                )
            return {"tasks": [self._shown(self.tasks[kept.task])], "failures": []}
        definition = self._definition(str(body.get("taskDefinition", "")))
        overrides = dict(body.get("overrides") or {})
        for one in overrides.get("containerOverrides") or ():
            if one.get("name") != definition.family:
                raise JobsError(
                    "InvalidParameterException",
                    f"Override for container named {one.get('name')} is not a container in the TaskDefinition.",
                )
        busy = sum(task.cluster == cluster.name and task.status != "STOPPED" for task in self.tasks.values())
        if busy >= cluster.room:
            return {
                "tasks": [],
                "failures": [
                    {
                        "arn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/{cluster.name}",
                        "reason": "RESOURCE:MEMORY",
                    }
                ],
            }
        name = f"{len(self.tasks) + 1:032x}"
        task = JobTask(name, cluster.name, definition, str(body.get("startedBy") or ""), overrides, self._now_s())
        self.tasks[task.arn] = task
        if token:
            self._tokens[cluster.name, token] = _Token(asked, task.arn, self._now_s())
        return {"tasks": [self._shown(task)], "failures": []}

    def _kept(self, cluster: str, token: str) -> _Token | None:
        kept = self._tokens.get((cluster, token))
        if kept is None:
            return None
        ended_s = self.tasks[kept.task].ended_s
        until_s = kept.since_s + TOKEN_S
        if ended_s is not None:
            until_s = min(until_s, ended_s + TOKEN_BEHIND_END_S)
        return kept if self._now_s() < until_s else None

    def _cluster(self, body: Mapping[str, Any]) -> Cluster:
        cluster = self.clusters.get(_short(str(body.get("cluster") or "default")))
        if cluster is None:
            raise JobsError("ClusterNotFoundException", "Cluster not found.")
        return cluster

    def _definition(self, text: str) -> TaskDefinition:
        family, _, revision = _short(text).partition(":")
        for one in reversed(self.definitions.get(family, [])):
            if not revision or str(one.revision) == revision:
                return one
        raise JobsError("ClientException", "TaskDefinition not found.")

    def _list(self, body: Mapping[str, Any]) -> dict[str, Any]:
        cluster, desired = self._cluster(body), body.get("desiredStatus") or "RUNNING"
        started_by = body.get("startedBy")
        return {
            "taskArns": [
                task.arn
                for task in self.tasks.values()
                if task.cluster == cluster.name and task.desired == desired and started_by in (None, task.started_by)
            ]
        }

    def _describe(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self._cluster(body)
        asked = body.get("tasks") or []
        if not 1 <= len(asked) <= MAX_DESCRIBED:
            raise JobsError("InvalidParameterException", f"Tasks must have 1 to {MAX_DESCRIBED} members")
        found = {arn: task for arn in asked if (task := self.tasks.get(arn)) is not None and self._is_shown(task)}
        missing = [{"arn": arn, "reason": "MISSING"} for arn in asked if arn not in found]
        return {"tasks": [self._shown(task) for task in found.values()], "failures": missing}

    def _is_shown(self, task: JobTask) -> bool:
        return task.ended_s is None or self._now_s() - task.ended_s < SHOWN_S

    def _shown(self, task: JobTask) -> dict[str, Any]:
        container: dict[str, Any] = {"name": task.definition.family, "lastStatus": task.status}
        if task.exit_code is not None:
            container["exitCode"] = task.exit_code
        return {
            "taskArn": task.arn,
            "clusterArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{task.cluster}",
            "taskDefinitionArn": task.definition.arn,
            "lastStatus": task.status,
            "desiredStatus": task.desired,
            "startedBy": task.started_by,
            "stoppedReason": task.reason,
            "stopCode": task.stop_code or None,
            "overrides": task.overrides,
            "containers": [container],
        }

    def _stop(self, body: Mapping[str, Any]) -> dict[str, Any]:
        task = self.tasks.get(str(body.get("task", "")))
        if task is None:
            raise JobsError("InvalidParameterException", "The referenced task was not found.")
        if task.status != "STOPPED":
            task.desired, task.reason, task.stop_code = "STOPPED", str(body.get("reason") or ""), "UserInitiated"
            if task.status == "RUNNING":
                self.unwanted.append(task.arn)
            else:
                task.status, task.ended_s = "STOPPED", self._now_s()
        return {"task": self._shown(task)}

    # What time does

    def due(self) -> list[JobTask]:
        """Move what waits on by one state; those that begin now."""
        begun = []
        for task in self.tasks.values():
            if task.status in _BEFORE:
                at = _BEFORE.index(task.status) + 1
                task.status = _BEFORE[at] if at < len(_BEFORE) else "RUNNING"
                if task.status == "RUNNING":
                    begun.append(task)
        return begun

    def ended(self, arn: str, code: int) -> None:
        """Its container has ended."""
        task = self.tasks[arn]
        task.status, task.desired, task.exit_code, task.ended_s = "STOPPED", "STOPPED", code, self._now_s()
        task.reason = task.reason or "Essential container in task exited"
        task.stop_code = task.stop_code or "EssentialContainerExited"


def _short(text: str) -> str:
    """The name at the end of an ARN."""
    return text.rpartition("/")[2]
