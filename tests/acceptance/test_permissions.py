"""Least privilege: what the program asks of AWS, recorded by the stand-ins, is what the task role allows, no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.app.workflow_parts import cloud_jobs
from gateway.drain.states import State
from gateway.settings.workflows import WorkflowAccount, Workflows
from loadtest.cloud.jobs_endpoint import JobsEndpoint
from tests.support.cloudformation import Stack, read
from tests.support.live_cloud import LiveCloud
from tests.support.program import Program, eventually
from tests.unit.ecs.stacks import (
    EXAMPLES,
    MANAGER_PARAMETERS,
    MANAGERS,
    PARAMETERS,
    SERVICE,
    WORKFLOWS,
    statements,
)

SPEED = 60.0
SETTINGS = (f"drain.speed={SPEED:g}", "connections.close_timeout_s=0.1")
# The SDK's names of services, and IAM's.
PREFIXES = {
    "application-autoscaling": "application-autoscaling",
    "cloudwatch": "cloudwatch",
    "ecs": "ecs",
    "elbv2": "elasticloadbalancing",
}
# Of the host, not of AWS: no role is asked.
LOCAL = {"metadata", "credentials"}


def allowed(example: str, role: str = "TaskRole") -> set[str]:
    """The actions of a role."""
    stack = Stack(read(SERVICE), **PARAMETERS, **EXAMPLES[example])
    found: set[str] = set()
    for statement in statements(stack[role]):
        action: Any = statement["Action"]
        found.update([action] if isinstance(action, str) else action)
    return found


def asked(cloud: LiveCloud) -> set[str]:
    """The actions that were called."""
    calls = (call.partition(":")[::2] for call in cloud.endpoints.requests)
    return {f"{PREFIXES[service]}:{action}" for service, action in calls if service not in LOCAL}


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "gateway", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def test_the_task_role_allows_what_the_program_calls_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LiveCloud(monkeypatch, SPEED) as cloud:
        cloud.serve("10.0.0.2")
        with Program(tmp_path / "data", *SETTINGS) as program:
            _live_through(cloud, program)
        check = run("check", "--json", "--set", f"data.folder={tmp_path / 'data'}")
        assert "deploy strategy" in {line["name"] for line in json.loads(check)}
        assert asked(cloud) == allowed("alone")


def _live_through(cloud: LiveCloud, program: Program) -> None:
    """Registered, moved by weights, drained, taken back, stopped."""

    def state() -> str:
        return str(program.get("/api/v1/drain", "admin")["state"])

    cloud.serve()
    eventually(lambda: state() == State.SERVING)
    cloud.deploy(percent=5)
    eventually(lambda: state() == State.SHIFTING)
    cloud.roll_back()
    eventually(lambda: state() == State.SERVING)
    with program.connect("dog-1"):
        cloud.deregister()
        eventually(lambda: state() in (State.DRAINING, State.DRAINED))
    cloud.serve()
    eventually(lambda: state() == State.SERVING)
    assert program.terminate() == 0


def test_the_guards_role_allows_what_the_guard_calls_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with LiveCloud(monkeypatch, SPEED) as cloud:
        told = cloud.pause()
        words = ("deploy", "guard", "--keep", "--service", "web", "--cluster", "default")
        command = [sys.executable, "-m", "gateway", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as guard:
            assert guard.stdout is not None
            assert guard.stdout.readline().startswith("CONTINUE: ")
            eventually(lambda: told == ["CONTINUE"])
            guard.terminate()
            assert guard.wait(20) == 0
        assert asked(cloud) == allowed("linear", "GuardRole")


async def test_the_managers_role_allows_what_its_runners_call_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = JobsEndpoint()
    cloud.batch.add_queue("etl")
    cloud.ecs.add_cluster("main")
    cloud.batch.add_definition("load", ["sleep", "60"])
    cloud.ecs.add_definition("load", ["sleep", "60"])
    await cloud.start()
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    account = WorkflowAccount("etl", "load", "main", "load")
    works: dict[str, dict[str, Any]] = {
        "batch": {"queue": "etl", "job_definition": "load", "parameters": {}},
        "ecs": {"cluster": "main", "task_definition": "load", "container": "", "command": []},
    }
    for name, work in works.items():
        jobs = cloud_jobs(name, Workflows(), {"acme": account})
        # What a manager does: it looks for a job, submits it, watches it, and stops it.
        assert await jobs.find("a" * 32, work) is None
        job = await jobs.submit("a" * 32, work, {})
        assert job in await jobs.states([job])
        await jobs.stop(job, "enough")
        await jobs.close()
    await cloud.close()
    spelled = {"submitjob": "SubmitJob", "listjobs": "ListJobs", "describejobs": "DescribeJobs"}
    spelled["terminatejob"] = "TerminateJob"
    called = {
        service + ":" + spelled.get(name, name) for service, _, name in (one.partition(":") for one in cloud.requests)
    }
    stack = Stack(read(WORKFLOWS), **MANAGER_PARAMETERS, **MANAGERS["jobs"])
    roles = (stack["ManagerRole"]["Policies"][0], stack.of_type("AWS::IAM::RolePolicy")["TaskPolicy"])
    actions = [one["Action"] for role in roles for one in role["PolicyDocument"]["Statement"]]
    granted = {action for some in actions for action in ([some] if isinstance(some, str) else some)}
    # Running a task with a role hands that over; ECS asks for it, the program does not call it.
    assert called == granted - {"iam:PassRole"}


def test_commands_that_need_no_aws_ask_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LiveCloud(monkeypatch, SPEED) as cloud:
        folder = ("--set", f"data.folder={tmp_path / 'data'}")
        monkeypatch.setenv("HEIWA_AUTH__SECRET", "x" * 48)
        assert run("token", "--sub", "me", *folder).count(".") == 2
        assert "heiwa" in run("--version")
        assert "auth.secret" in run("serve", "--show-settings", *folder)
        assert not cloud.endpoints.requests
        assert "HEIWA_AUTH__SECRET" in os.environ
