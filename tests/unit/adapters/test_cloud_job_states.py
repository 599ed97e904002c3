"""What a service says of a job, and what a run is told; several are reports of others who did not see it coming."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.adapters.aws import batch, ecs_tasks
from gateway.workflows.cloud_ports import JobState


def task(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    overrides = {"containerOverrides": [{"name": "load"}]}
    return {"lastStatus": "STOPPED", "containers": list(containers), "overrides": overrides, **more}


@pytest.mark.parametrize(
    ("found", "error"),
    [
        # A capacity provider gave up: no container ever was.
        (task(stopCode="TaskFailedToStart", stoppedReason="timed out"), "TaskFailedToStart: timed out"),
        (
            task({"name": "load", "exitCode": 137, "reason": "OutOfMemoryError: Container killed"}),
            "exit code 137: OutOfMemoryError: Container killed",
        ),
        (
            task({"name": "load", "reason": "CannotPullContainerError"}, stopCode="TaskFailedToStart"),
            "TaskFailedToStart: CannotPullContainerError",
        ),
        # The job is the container that was overridden, whatever stands beside it.
        (task({"name": "sidecar", "exitCode": 0}, {"name": "load", "exitCode": 3}), "exit code 3"),
        (task({"name": "sidecar", "exitCode": 1}, {"name": "load", "exitCode": 0}), ""),
        # What ended well beside it says nothing of a job whose image could not be pulled.
        (
            task({"name": "sidecar", "exitCode": 0}, {"name": "load", "reason": "CannotPullContainerError"}),
            "the task stopped: CannotPullContainerError",
        ),
        (task({"name": "sidecar", "exitCode": 0}), "the task stopped"),
        (task(), "the task stopped"),
    ],
)
def test_a_task_that_stopped(found: dict[str, Any], error: str) -> None:
    assert ecs_tasks._state(found) == JobState(running=True, ended=True, error=error)


@pytest.mark.parametrize(
    ("status", "running"), [("PROVISIONING", False), ("PENDING", False), ("RUNNING", True), ("STOPPING", True)]
)
def test_a_task_that_goes_on(status: str, running: bool) -> None:
    assert ecs_tasks._state({"lastStatus": status}) == JobState(running)


def test_a_job_of_batch() -> None:
    stuck = {"status": "RUNNABLE", "statusReason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"}
    assert batch._state(stuck) == JobState(running=False, waits="MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT")
    assert batch._state({"status": "RUNNABLE"}) == JobState(running=False)
    assert batch._state({"status": "SUCCEEDED"}) == JobState(running=True, ended=True)
    # The instance is gone: there is no exit code.
    lost = batch._state({"status": "FAILED", "statusReason": "Host EC2 (instance i-0abc) terminated.", "container": {}})
    assert lost.error == "Host EC2 (instance i-0abc) terminated."
    failed = {"status": "FAILED", "statusReason": "Essential container in task exited", "container": {"exitCode": 1}}
    assert batch._state(failed).error == "exit code 1: Essential container in task exited"
