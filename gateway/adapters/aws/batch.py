"""Jobs of AWS Batch: API reference 2016-08-10, SubmitJob, ListJobs, DescribeJobs, TerminateJob.

SubmitJob has no token that keeps two submissions apart: the job's name is the attempt's public id, and ListJobs finds
it in whatever state it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.adapters.aws.clients import AwsClients
from gateway.workflows import allowed
from gateway.workflows.cloud_ports import JobState

_RUNNING = ("RUNNING", "SUCCEEDED", "FAILED")
_MAX_REASON_CHARS = 200


class BatchJobs:
    """See `gateway.workflows.cloud_ports.CloudJobs`. `lists` gives what an account may use, by the setting's name."""

    name = "batch"
    deduplicates = False

    def __init__(self, clients: AwsClients, lists: Callable[[str], Mapping[str, Sequence[str]]]) -> None:
        self._clients = clients
        self._lists = lists

    def problem(self, account: str, work: Mapping[str, Any], *, final: bool) -> str:
        return allowed.problem(account, work, allowed.BATCH, self._lists(account), final=final)

    async def find(self, public: str, work: Mapping[str, Any]) -> str | None:
        # With a filter all states are searched; the newest comes first, and its value may end in an asterisk, ours not.
        answer = await self._clients.call(
            "batch", "list_jobs", jobQueue=work["queue"], filters=[{"name": "JOB_NAME", "values": [public]}]
        )
        found = [job for job in answer.get("jobSummaryList", ()) if job.get("jobName") == public]
        return str(found[-1]["jobId"]) if found else None

    async def submit(self, public: str, work: Mapping[str, Any], environment: Mapping[str, str]) -> str:
        variables = [{"name": name, "value": value} for name, value in environment.items()]
        answer = await self._clients.call(
            "batch",
            "submit_job",
            jobName=public,
            jobQueue=work["queue"],
            jobDefinition=work["job_definition"],
            parameters={name: str(value) for name, value in work["parameters"].items()},
            containerOverrides={"environment": variables},
            # An attempt is one try: the node's `retry` decides about another, which has a name of its own.
            retryStrategy={"attempts": 1},
        )
        return str(answer["jobId"])

    async def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        answer = await self._clients.call("batch", "describe_jobs", jobs=list(jobs))
        return {job["jobId"]: _state(job) for job in answer.get("jobs", ())}

    async def stop(self, job: str, why: str) -> None:
        await self._clients.call("batch", "terminate_job", jobId=job, reason=why)

    async def close(self) -> None:
        await self._clients.close()


def _state(job: Mapping[str, Any]) -> JobState:
    status = job.get("status")
    if status not in ("SUCCEEDED", "FAILED"):
        # Of one that cannot be placed, such as MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT.
        waits = str(job.get("statusReason") or "") if status == "RUNNABLE" else ""
        return JobState(running=status in _RUNNING, waits=waits[:_MAX_REASON_CHARS])
    if status == "SUCCEEDED":
        return JobState(running=True, ended=True)
    container = job.get("container", {})
    said = [str(text) for text in (job.get("statusReason"), container.get("reason")) if text]
    if "exitCode" in container:
        said.insert(0, f"exit code {container['exitCode']}")
    return JobState(running=True, ended=True, error=": ".join(said)[:_MAX_REASON_CHARS] or "the job failed")
