"""How a gateway is started in a container; that it works, tests/acceptance/test_container.py shows."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest.processes import children
from loadtest.processes.container import DATA, USER, GatewayContainer
from loadtest.processes.gateways import GatewayError

SECRET = "the-secret-that-no-argument-may-hold"


class Started(Exception):
    """What would have been run."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__()
        self.command = list(command)
        self.environment = environment


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


async def _started(tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    async def start(command: Sequence[str], log: Path, *, environment: Mapping[str, str]) -> Any:
        raise Started(command, environment)

    given: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(children, "start", start)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "chown", lambda *to: given.append(to))
    gateway = GatewayContainer("gateway-1.2", tmp_path / "gateway-2", "heiwa:test", 128)
    environment = {"AWS_REGION": "eu-west-1", "ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:1/x", "HOME": "/root"}
    with pytest.raises(Started) as started:
        await gateway.start(secret_file, {"drain.enabled": True}, "127.66.0.1:8080", environment)
    assert given == [(tmp_path / "gateway-2", USER, USER)]
    return started.value


async def test_it_runs_the_image_with_little_rights_and_a_limit(
    tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (await _started(tmp_path, secret_file, monkeypatch)).command
    text = " ".join(command)
    assert command[:4] == ["/usr/bin/podman", "--runtime", "runc", "run"]
    for option in ("--memory 128m", "--memory-swap 128m", "--read-only", "--cap-drop all", "no-new-privileges"):
        assert option in text
    assert f"--volume {tmp_path / 'gateway-2'}:{DATA}" in text
    assert "heiwa:test serve --set" in text
    for setting in (f"data.folder={DATA}", "listen.public=127.66.0.1:8080", "drain.enabled=true"):
        assert setting in command
    assert "auth.secret_file" not in text


async def test_a_secret_is_in_no_argument(tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = await _started(tmp_path, secret_file, monkeypatch)
    assert SECRET not in " ".join(started.command)
    assert started.environment["HEIWA_AUTH__SECRET"] == SECRET
    passed = [started.command[at + 1] for at, word in enumerate(started.command) if word == "--env"]
    assert set(passed) >= {"HEIWA_AUTH__SECRET", "AWS_REGION", "ECS_CONTAINER_METADATA_URI_V4"}
    assert "HOME" not in passed


async def test_without_podman_it_says_so(tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(GatewayError, match="needs podman"):
        await GatewayContainer("gateway-1.1", tmp_path / "gateway-1", "heiwa", 256).start(secret_file, {})


async def test_signals_go_to_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    gateway = GatewayContainer("gateway-1.1", tmp_path / "gateway-1", "heiwa", 256)
    gateway._process = SimpleNamespace(returncode=None, pid=1)  # type: ignore[assignment]
    (tmp_path / "gateway-1.1.pid").write_text("4711\n")
    gateway.signal(signal.SIGSTOP)
    gateway.terminate()
    assert sent == [(4711, signal.SIGSTOP), (4711, signal.SIGTERM)]
    assert not asyncio.all_tasks() - {asyncio.current_task()}
