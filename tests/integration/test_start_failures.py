"""A start that fails at any of its steps leaves nothing behind: no task, thread, file, socket or lock."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.aws.elbv2 import ElbTargetHealth
from gateway.adapters.data_folder import DataFolder
from gateway.app.gateway import Gateway
from gateway.errors import StoreError
from gateway.settings.load import load
from gateway.wire import listener

TARGET = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef"
STEPS = (
    "gateway.app.gateway.bind",
    "gateway.app.gateway.DataFolder.open",
    "gateway.app.gateway.RecordingFile",
    "gateway.adapters.sqlite.index.SQLiteLocationIndex.open",
    "gateway.adapters.sqlite.spool.SQLiteSpool.open",
    "gateway.locations.pipeline.LocationPipeline.start",
    "gateway.app.gateway.Authenticator",
    "gateway.app.gateway.connections_maximum",
    "gateway.app.gateway.Door",
    "gateway.app.gateway.Drainer",
    "gateway.app.gateway.TargetHealthWatch",
    "gateway.app.gateway.build_public",
    "gateway.app.gateway.build_operations",
    "gateway.app.gateway.tls_context",
)


def made(folder: Path) -> Gateway:
    secret = folder.parent / "secret"
    secret.write_text("s" * 32)
    secret.chmod(0o600)
    flags = [
        f"data.folder={folder}",
        f"auth.secret_file={secret}",
        "listen.public=127.0.0.1:0",
        "listen.operations=127.0.0.1:0",
        f"drain.target_group_arns={TARGET}",
        "drain.target=127.0.0.1:8080",
    ]
    return Gateway(load(None, {}, flags).settings, folder.parent / "recording")


def held() -> list[str]:
    """What this process has open besides pipes and the loop's own files."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(descriptor.readlink()).rstrip("0123456789[]"))
    return sorted(names)


def threads() -> set[str]:
    # The loop's own pool of threads stays.
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


async def nothing_is_left(before: tuple[list[str], set[str]], folder: Path) -> None:
    assert [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}] == []
    # A thread that was told to end needs a moment.
    async with asyncio.timeout(10):
        while threads() != before[1]:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert held() == before[0]
    assert not (folder.parent / "recording").exists()
    DataFolder.open(folder).close()


@pytest.fixture(autouse=True)
def no_cloud(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Nobody is asked; whether the client was closed is remembered."""
    closed: list[bool] = []

    async def close(_: object) -> None:
        closed.append(True)

    async def membership(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ElbTargetHealth, "close", close)
    monkeypatch.setattr(ElbTargetHealth, "membership", membership)
    return closed


@pytest.mark.parametrize("step", STEPS, ids=[step.removeprefix("gateway.") for step in STEPS])
async def test_a_step_that_fails_undoes_those_before_it(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_cloud: list[bool]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StoreError("made to fail")

    folder = tmp_path / "data"
    await asyncio.to_thread(lambda: None)  # the loop makes its pool
    before = held(), threads()
    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(StoreError, match="made to fail"):
            await made(folder).start()
    await nothing_is_left(before, folder)
    late = STEPS.index(step) > STEPS.index("gateway.app.gateway.Drainer")
    assert no_cloud == [True] * late


@pytest.mark.parametrize("number", [1, 2])
async def test_a_socket_that_cannot_be_listened_on_undoes_all(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listened, folder, before = 0, tmp_path / "data", (held(), threads())
    real = listener.listen

    async def listen(*arguments: Any) -> Any:
        nonlocal listened
        listened += 1
        if listened == number:
            raise OSError("made to fail")
        return await real(*arguments)

    monkeypatch.setattr("gateway.app.gateway.listen", listen)
    with pytest.raises(OSError, match="made to fail"):
        await made(folder).start()
    await nothing_is_left(before, folder)


async def test_a_start_that_is_cancelled_undoes_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, before, reached = tmp_path / "data", (held(), threads()), asyncio.Event()

    async def listen(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("gateway.app.gateway.listen", listen)
    starting = asyncio.create_task(made(folder).start())
    await reached.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await nothing_is_left(before, folder)
