"""The channels of workflows over websockets: the list of an account's runs, and resuming over a restart."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_workflows import Caller, put
from tests.support.program import Program, eventually, receive, send

SKIPPED = {"a": {"run": {"device": {"id": "d", "command": "x"}}, "when": "1 == 2"}}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Program(tmp_path_factory.mktemp("channels") / "data") as running:
        yield running


def watching(program: Program, account: str = "default", **more: Any) -> Any:
    return program.connect(f"watch-{account}", scope="progress:read", account=account, **more)


def lines(connection: Any, count: int) -> list[dict[str, Any]]:
    """So many events of the list."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = receive(connection)
        if message["type"] == "event":
            assert message["channel"] == "workflows"
            found.append(message)
    return found


def test_the_list_tells_of_each_run_once_over_a_restart_and_to_its_account_only(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as first:
        for account in ("default", "other"):
            put(first, {"name": "quick", "nodes": SKIPPED}, account=account)
        caller = Caller(first)
        with watching(first) as mine, watching(first, "other") as other:
            for connection in (mine, other):
                send(connection, {"type": "subscribe", "channel": "workflows"})
                assert receive(connection)["snapshot"] == {"runs": []}
            runs = [caller.run("quick") for _ in range(3)]
            found = lines(mine, 6)
            assert [event["offset"] for event in found] == [1, 2, 3, 4, 5, 6]
            for run in runs:
                told = [event["data"]["status"] for event in found if event["data"]["run"] == run]
                assert told == ["running", "ok"]
            foreign = Caller(first, account="other").run("quick")
            assert {event["data"]["run"] for event in lines(other, 2)} == {foreign}
        first.kill()
    with Program(tmp_path / "data") as second, watching(second) as again:
        send(again, {"type": "subscribe", "channel": "workflows", "after": 4})
        assert receive(again) == {"type": "subscribed", "channel": "workflows", "offset": 4}
        assert [event["offset"] for event in lines(again, 2)] == [5, 6]
        later = Caller(second).run("quick")
        assert [event["data"]["run"] for event in lines(again, 2)] == [later, later]
        send(again, {"type": "subscribe", "channel": "workflows", "after": 99})
        eventually(lambda: receive(again).get("code") == "offset_too_new", what="a gap is silent")
        # Without the scope there is nothing to see.
        with second.connect("nobody", scope="location:read") as nobody:
            send(nobody, {"type": "subscribe", "channel": "workflows"})
            assert receive(nobody)["code"] == "forbidden"


def test_what_a_device_reports_is_progress_with_percent(program: Program) -> None:
    nodes = {"a": {"run": {"device": {"id": "lamp", "command": "update"}}}}
    put(program, {"name": "update", "nodes": nodes})
    caller = Caller(program)
    with program.connect("lamp", scope="command:receive") as lamp, watching(program) as viewer:
        run = caller.run("update")
        send(viewer, {"type": "subscribe", "channel": f"workflow:{run}", "after": 0})
        command = receive(lamp)
        for percent in range(100):
            send(lamp, {"type": "report", "command": command["id"], "percent": percent, "message": "flashing"})
        found: list[dict[str, Any]] = []

        def told(kind: str) -> bool:
            message = receive(viewer)
            if message["type"] == "event":
                found.append(message["data"])
            return bool(found) and found[-1]["kind"] == kind

        eventually(lambda: told("progress"), what="no progress")
        # The newest of a second is told, not each of them.
        eventually(lambda: told("progress"), what="not the newest")
        send(lamp, {"type": "result", "command": command["id"], "ok": True, "value": {"version": 2}})
        eventually(lambda: told("run_ok"), what="the run did not end")
    percents = [data["percent"] for data in found if data["kind"] == "progress"]
    assert (percents[0], percents[-1]) == (0, 99)
    assert len(percents) <= 4


def test_a_run_is_drawn_live_on_a_terminal_over_a_restart(tmp_path: Path) -> None:
    """The picture goes on where it was after `kill -9`, nested runs and countdown included."""
    wait = {
        "run": {"device": {"id": "nobody", "command": "x"}},
        "retry": {"max_attempts": 4, "wait_s": 2, "backoff": 1},
    }
    lamp_work = {"device": {"id": "lamp", "command": "x", "idempotent": True}}
    device = {"run": lamp_work, "retry": {"max_attempts": 100, "wait_s": 0.5, "backoff": 1}}
    with Program(tmp_path / "data") as first:
        put(first, {"name": "inner", "nodes": {"blink": device}})
        nodes = {"a": {"workflow": {"name": "inner"}}, "b": {**wait, "needs": ["a"], "on_error": "skip"}}
        put(first, {"name": "outer", "nodes": nodes})
        run = Caller(first).run("outer")
        port = first.operations.rpartition(":")[2]
        terminal, inside = pty.openpty()
        command = [sys.executable, "-m", "gateway", "workflow", "watch", run, "--url", first.operations]
        command += ["--set", f"data.folder={first.folder}"]
        watching = subprocess.Popen(
            command, stdout=inside, stderr=inside, env={**os.environ, "COLUMNS": "120", "LINES": "40"}
        )
        os.close(inside)
        seen = Screen(terminal)
        eventually(lambda: "blink" in seen.text(), what="the nested run is not drawn")
        first.kill()
        eventually(lambda: "the gateway is away" in seen.text(), what="nobody says that it is away")
    with Program(tmp_path / "data", f"listen.operations=127.0.0.1:{port}") as second:
        with second.connect("lamp", scope="command:receive") as lamp:
            command_seen = receive(lamp)
            send(lamp, {"type": "result", "command": command_seen["id"], "ok": True})
            eventually(lambda: "goes on in" in seen.text(), what="no countdown")
        eventually(lambda: watching.poll() is not None, 40, what="it does not end")
    assert watching.returncode == 0
    assert "✓ outer" in seen.text()
    os.close(terminal)


class Screen:
    """What a terminal was written."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._written = b""

    def text(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while part := os.read(self._descriptor, 65_536):
                self._written += part
        return self._written.decode(errors="replace")
