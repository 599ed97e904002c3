"""AWS Batch without sockets: queues, compute environments, job definitions, and jobs with their states and limits.

API reference 2016-08-10. Where AWS does not say what happens, this is what was chosen: a job is scheduled in the order
of its submission within a queue; throttling is a token bucket an operation; ListJobs shows a job `lag_s` after its
submission.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.cloud.job_limits import Buckets, JobsError
from loadtest.cloud.place import ACCOUNT, REGION

MAX_DESCRIBED, MAX_LISTED = 100, 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_OVER = ("SUCCEEDED", "FAILED")
_BEFORE = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING")


@dataclass(slots=True)
class ComputeEnvironment:
    """Room for jobs."""

    name: str
    max_vcpus: int = 16
    enabled: bool = True


@dataclass(slots=True)
class JobQueue:
    """Where jobs wait for room in its environments."""

    name: str
    environments: list[str]
    enabled: bool = True


@dataclass(slots=True)
class JobDefinition:
    """A revision; `Ref::name` in the command is replaced by a parameter."""

    name: str
    revision: int
    command: list[str]
    vcpus: int = 1
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """As AWS forms them."""
        return f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/{self.name}:{self.revision}"


@dataclass(slots=True)
class Job:
    """`environment` is what the submission overrides."""

    id: str
    name: str
    queue: str
    definition: JobDefinition
    parameters: dict[str, str]
    environment: dict[str, str]
    created_s: float
    status: str = "SUBMITTED"
    reason: str = ""
    exit_code: int | None = None

    @property
    def command(self) -> list[str]:
        """With its parameters."""
        given = self.parameters
        return [
            given.get(word.removeprefix("Ref::"), word) if word.startswith("Ref::") else word
            for word in self.definition.command
        ]


class Batch:
    """`now_s` is a monotonic clock. `rate_per_s` bounds each operation; 0: no bound."""

    def __init__(self, now_s: Callable[[], float], rate_per_s: float = 0.0, lag_s: float = 0.0) -> None:
        self.environments: dict[str, ComputeEnvironment] = {}
        self.queues: dict[str, JobQueue] = {}
        self.definitions: dict[str, list[JobDefinition]] = {}
        self.jobs: dict[str, Job] = {}
        self.lag_s = lag_s
        # Jobs that have to be killed.
        self.unwanted: list[str] = []
        self._now_s = now_s
        self._buckets = Buckets(now_s, rate_per_s, "TooManyRequestsException", 429)

    def add_queue(self, name: str, max_vcpus: int = 16) -> JobQueue:
        """With an environment of its own."""
        self.environments[name] = ComputeEnvironment(name, max_vcpus)
        self.queues[name] = JobQueue(name, [name])
        return self.queues[name]

    def add_definition(self, name: str, command: list[str], vcpus: int = 1) -> JobDefinition:
        """A new revision."""
        revisions = self.definitions.setdefault(name, [])
        revisions.append(JobDefinition(name, len(revisions) + 1, command, vcpus))
        return revisions[-1]

    def answer(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What an operation (`submitjob`, …) answers. Raises JobsError."""
        self._buckets.take(operation)
        match operation:
            case "submitjob":
                return self._submit(body)
            case "listjobs":
                return self._list(body)
            case "describejobs":
                return self._describe(body)
            case "terminatejob":
                return self._terminate(body)
            case "describejobqueues":
                asked = body.get("jobQueues") or list(self.queues)
                return {"jobQueues": [self._queue(self.queues[name]) for name in asked if name in self.queues]}
            case "describejobdefinitions":
                found = [one for revisions in self.definitions.values() for one in revisions]
                wanted = body.get("jobDefinitionName")
                shown = [one for one in found if wanted in (None, one.name)]
                return {
                    "jobDefinitions": [
                        {
                            "jobDefinitionName": one.name,
                            "revision": one.revision,
                            "jobDefinitionArn": one.arn,
                            "status": "ACTIVE",
                            "type": "container",
                        }
                        for one in shown
                    ]
                }
        raise JobsError("ClientException", f"no such operation: {operation}")

    def _queue(self, queue: JobQueue) -> dict[str, Any]:
        state = "ENABLED" if queue.enabled else "DISABLED"
        return {
            "jobQueueName": queue.name,
            "jobQueueArn": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{queue.name}",
            "state": state,
            "status": "VALID",
            "priority": 1,
            "computeEnvironmentOrder": [
                {"order": number, "computeEnvironment": name} for number, name in enumerate(queue.environments)
            ],
        }

    def _submit(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = str(body.get("jobName", ""))
        if not _NAME.fullmatch(name):
            raise JobsError(
                "ClientException", "Error executing request, Exception : Job name should match valid pattern"
            )
        queue = self._known_queue(body)
        if not queue.enabled:
            raise JobsError(
                "ClientException", f"Error executing request, Exception : JobQueue {queue.name} is DISABLED"
            )
        definition = self._definition(str(body.get("jobDefinition", "")))
        overrides = (body.get("containerOverrides") or {}).get("environment") or []
        environment = {str(one["name"]): str(one["value"]) for one in overrides}
        if any(key.startswith("AWS_BATCH") for key in environment):
            raise JobsError("ClientException", "Environment variables must not start with AWS_BATCH")
        number = len(self.jobs) + 1
        job = Job(
            f"{number:08x}-0000-4000-8000-{number:012x}",
            name,
            queue.name,
            definition,
            dict(body.get("parameters") or {}),
            environment,
            self._now_s(),
        )
        self.jobs[job.id] = job
        return {"jobName": name, "jobId": job.id, "jobArn": f"arn:aws:batch:{REGION}:{ACCOUNT}:job/{job.id}"}

    def _known_queue(self, body: Mapping[str, Any]) -> JobQueue:
        queue = self.queues.get(str(body.get("jobQueue", "")).rpartition("/")[2])
        if queue is None:
            raise JobsError("ClientException", "Error executing request, Exception : JobQueue not found")
        return queue

    def _definition(self, text: str) -> JobDefinition:
        name, _, revision = text.rpartition("/")[2].partition(":")
        found = self.definitions.get(name, [])
        for one in reversed(found):
            if not revision or str(one.revision) == revision:
                return one
        raise JobsError("ClientException", "Error executing request, Exception : JobDefinition not found")

    def _list(self, body: Mapping[str, Any]) -> dict[str, Any]:
        queue = self._known_queue(body)
        filters = body.get("filters") or []
        shown = [
            job
            for job in self.jobs.values()
            if job.queue == queue.name and self._now_s() - job.created_s >= self.lag_s and _fits(job, filters, body)
        ]
        # The newest first.
        shown.reverse()
        first = int(body.get("nextToken") or 0)
        most = min(int(body.get("maxResults") or MAX_LISTED), MAX_LISTED)
        page = shown[first : first + most]
        more = {"nextToken": str(first + most)} if len(shown) > first + most else {}
        return {
            "jobSummaryList": [{"jobId": job.id, "jobName": job.name, "status": job.status} for job in page],
            **more,
        }

    def _describe(self, body: Mapping[str, Any]) -> dict[str, Any]:
        asked = body.get("jobs")
        if not isinstance(asked, list) or len(asked) > MAX_DESCRIBED:
            raise JobsError(
                "ClientException", f"Error executing request, Exception : jobs must have 1 to {MAX_DESCRIBED}"
            )
        return {"jobs": [self._shown(self.jobs[name]) for name in asked if name in self.jobs]}

    def _shown(self, job: Job) -> dict[str, Any]:
        container: dict[str, Any] = {
            "environment": [{"name": key, "value": value} for key, value in job.environment.items()]
        }
        if job.exit_code is not None:
            container["exitCode"] = job.exit_code
        return {
            "jobId": job.id,
            "jobName": job.name,
            "jobQueue": job.queue,
            "jobDefinition": job.definition.arn,
            "status": job.status,
            "statusReason": job.reason,
            "startedAt": 1,
            "container": container,
        }

    def _terminate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        job = self.jobs.get(str(body.get("jobId", "")))
        if not body.get("reason"):
            raise JobsError("ClientException", "reason is required")
        if job is not None and job.status not in _OVER:
            job.reason = str(body["reason"])
            if job.status == "RUNNING":
                self.unwanted.append(job.id)
            else:
                job.status = "FAILED"
        return {}

    # What time does

    def due(self) -> list[Job]:
        """Move what waits on by one state; those that begin now."""
        begun = []
        for job in self.jobs.values():
            if job.status not in _BEFORE:
                continue
            at = _BEFORE.index(job.status)
            if job.status == "RUNNABLE":
                # User guide, "Jobs stuck in a RUNNABLE status".
                job.reason = "" if self._has_room(job) else "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
                if job.reason:
                    continue
            if at + 1 < len(_BEFORE):
                job.status = _BEFORE[at + 1]
            else:
                job.status = "RUNNING"
                begun.append(job)
        return begun

    def _has_room(self, job: Job) -> bool:
        environments = [self.environments[name] for name in self.queues[job.queue].environments]
        room = sum(one.max_vcpus for one in environments if one.enabled)
        taken = sum(
            other.definition.vcpus
            for other in self.jobs.values()
            if other.queue == job.queue and other.status in ("STARTING", "RUNNING")
        )
        return taken + job.definition.vcpus <= room

    def ended(self, job: str, code: int) -> None:
        """Its container has ended."""
        found = self.jobs[job]
        found.exit_code = code
        found.status = "SUCCEEDED" if code == 0 and not found.reason else "FAILED"
        found.reason = found.reason or ("" if code == 0 else "Essential container in task exited")


def _fits(job: Job, filters: list[Mapping[str, Any]], body: Mapping[str, Any]) -> bool:
    if not filters:
        return job.status == (body.get("jobStatus") or "RUNNING")
    names = [value.lower() for one in filters if one.get("name") == "JOB_NAME" for value in one.get("values", ())]
    return any(
        job.name.lower().startswith(name[:-1]) if name.endswith("*") else job.name.lower() == name for name in names
    )
