"""Tasks of Amazon ECS as jobs: API reference 2014-11-13, RunTask, ListTasks, DescribeTasks, StopTask.

RunTask takes the attempt's public id as its client token: asked again it answers with the task that is there. The token
holds for 24 hours at most, and for an hour behind the task's end; what is asked for again later finds the start gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.adapters.aws.clients import AwsClients
from gateway.errors import CallError, CallErrorKind
from gateway.workflows import allowed
from gateway.workflows.cloud_ports import JobState

_MAX_REASON_CHARS = 200
_BEGUN = ("RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED")


class Network(NamedTuple):
    """Where tasks are placed; the operator says so, not a tenant. Empty: as the task definition and cluster say."""

    launch_type: str
    subnets: Sequence[str]
    security_groups: Sequence[str]

    def parameters(self) -> dict[str, Any]:
        """Those of RunTask."""
        found: dict[str, Any] = {"launchType": self.launch_type} if self.launch_type else {}
        if self.subnets:
            places = {"subnets": list(self.subnets), "assignPublicIp": "DISABLED"}
            groups = {"securityGroups": list(self.security_groups)} if self.security_groups else {}
            found["networkConfiguration"] = {"awsvpcConfiguration": {**places, **groups}}
        return found


class EcsTasks:
    """See `gateway.workflows.cloud_ports.CloudJobs`. `lists` gives what an account may use, by the setting's name."""

    name = "ecs"
    deduplicates = True

    def __init__(
        self, clients: AwsClients, lists: Callable[[str], Mapping[str, Sequence[str]]], network: Network
    ) -> None:
        self._clients = clients
        self._lists = lists
        self._network = network

    def problem(self, account: str, work: Mapping[str, Any], *, final: bool) -> str:
        return allowed.problem(account, work, allowed.ECS, self._lists(account), final=final)

    async def find(self, public: str, work: Mapping[str, Any]) -> str | None:
        # Stopped ones are shown for an hour.
        for desired in ("RUNNING", "STOPPED"):
            answer = await self._clients.call(
                "ecs", "list_tasks", cluster=work["cluster"], startedBy=public, desiredStatus=desired
            )
            if answer.get("taskArns"):
                return str(answer["taskArns"][0])
        return None

    async def submit(self, public: str, work: Mapping[str, Any], environment: Mapping[str, str]) -> str:
        override: dict[str, Any] = {
            "name": work["container"] or _family(work["task_definition"]),
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
        }
        if work["command"]:
            override["command"] = [str(word) for word in work["command"]]
        answer = await self._clients.call(
            "ecs",
            "run_task",
            absent="ConflictException",
            cluster=work["cluster"],
            taskDefinition=work["task_definition"],
            clientToken=public,
            startedBy=public,
            count=1,
            overrides={"containerOverrides": [override]},
            **self._network.parameters(),
        )
        if answer is None:
            # Something else than then is asked for under the token, such as a new address for jobs.
            found = await self.find(public, work)
            if found is None:
                raise CallError(CallErrorKind.UNREACHABLE, "Amazon ECS knows the token, and does not show its task")
            return found
        if answer.get("tasks"):
            return str(answer["tasks"][0]["taskArn"])
        reason = next((str(failure.get("reason", "")) for failure in answer.get("failures", ())), "")
        # No room now (RESOURCE:…, Capacity is unavailable…): nothing has begun.
        raise CallError(CallErrorKind.THROTTLED, f"Amazon ECS did not run the task: {reason[:_MAX_REASON_CHARS]}")

    async def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        found: dict[str, JobState] = {}
        clusters: dict[str, list[str]] = {}
        for job in jobs:
            clusters.setdefault(_cluster(job), []).append(job)
        for cluster, arns in clusters.items():
            answer = await self._clients.call("ecs", "describe_tasks", cluster=cluster, tasks=arns)
            found |= {task["taskArn"]: _state(task) for task in answer.get("tasks", ())}
        return found

    async def stop(self, job: str, why: str) -> None:
        await self._clients.call("ecs", "stop_task", cluster=_cluster(job), task=job, reason=why)

    async def close(self) -> None:
        await self._clients.close()


def _state(task: Mapping[str, Any]) -> JobState:
    status = task.get("lastStatus")
    if status != "STOPPED":
        return JobState(running=status in _BEGUN)
    containers, named = task.get("containers", ()), _overridden(task)
    # A task that never started has no containers. What ended well beside a job that never did says nothing of it.
    own = [one for one in containers if named in ("", one.get("name"))]
    job: Mapping[str, Any] = next((one for one in own if one.get("exitCode") is not None), own[0] if own else {})
    code = job.get("exitCode")
    if code == 0:
        return JobState(running=True, ended=True)
    # Such as OutOfMemoryError, or why the image could not be pulled.
    others = () if code is not None else (one.get("reason") for one in containers if one is not job)
    reasons = [job.get("reason"), *others, task.get("stoppedReason")]
    error = f"exit code {code}" if code is not None else str(task.get("stopCode") or "the task stopped")
    said = ": ".join([error, *(str(reason) for reason in reasons if reason)])
    return JobState(running=True, ended=True, error=said[:_MAX_REASON_CHARS])


def _overridden(task: Mapping[str, Any]) -> str:
    """The container that is the job; "": it was not said."""
    overrides = task.get("overrides", {}).get("containerOverrides", ())
    return str(overrides[0].get("name", "")) if overrides else ""


def _family(definition: str) -> str:
    """The name of a task definition: `load` of `load:3` and of `arn:…:task-definition/load:3`."""
    return definition.rpartition("/")[2].partition(":")[0]


def _cluster(arn: str) -> str:
    """Of a task: `arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID`."""
    parts = arn.rpartition(":")[2].split("/")
    return parts[1] if len(parts) == 3 else "default"
