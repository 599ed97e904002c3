"""Least privilege: what the program asks of AWS, recorded by the stand-ins, is what the task role allows, no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.drain.states import State
from tests.support.cloudformation import Stack, read
from tests.support.live_cloud import LiveCloud
from tests.support.program import Program, eventually
from tests.unit.ecs.rules import EXAMPLES, PARAMETERS, SERVICE, statements

SPEED = 60.0
SETTINGS = (f"drain.speed={SPEED:g}", "connections.close_timeout_s=0.1")
# The SDK's names of services, and IAM's.
PREFIXES = {
    "application-autoscaling": "application-autoscaling",
    "ecs": "ecs",
    "elbv2": "elasticloadbalancing",
}
# Of the host, not of AWS: no role is asked.
LOCAL = {"metadata", "credentials"}


def allowed(example: str) -> set[str]:
    """The actions of the task role."""
    stack = Stack(read(SERVICE), **PARAMETERS, **EXAMPLES[example])
    found: set[str] = set()
    for statement in statements(stack["TaskRole"]):
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
    """Registered, drained, taken back, stopped."""

    def state() -> str:
        return str(program.get("/api/v1/drain", "admin")["state"])

    cloud.serve()
    eventually(lambda: state() == State.SERVING)
    with program.connect("dog-1"):
        cloud.deregister()
        eventually(lambda: state() in (State.DRAINING, State.DRAINED))
    cloud.serve()
    eventually(lambda: state() == State.SERVING)
    assert program.terminate() == 0


def test_commands_that_need_no_aws_ask_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LiveCloud(monkeypatch, SPEED) as cloud:
        folder = ("--set", f"data.folder={tmp_path / 'data'}")
        monkeypatch.setenv("HEIWA_AUTH__SECRET", "x" * 48)
        assert run("token", "--sub", "me", *folder).count(".") == 2
        assert "heiwa" in run("--version")
        assert "auth.secret" in run("serve", "--show-settings", *folder)
        assert not cloud.endpoints.requests
        assert "HEIWA_AUTH__SECRET" in os.environ
