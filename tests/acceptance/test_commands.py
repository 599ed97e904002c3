"""A device that answers commands, and `heiwa command`, as programs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.process import ROOT
from tests.support.program import Program, eventually, receive, send


@contextlib.contextmanager
def answering(program: Program, name: str) -> Iterator[subprocess.Popen[bytes]]:
    token = program.token(name, "location:write command:receive")
    line = [sys.executable, "-m", "gateway", "device", "--url", program.url, "--token", token, "--answers"]
    device = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: program.metrics()["heiwa_connections_opened_total"] >= 1)
        yield device
    finally:
        device.terminate()
        device.wait(20)


def command(program: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    token = program.token("app", "command:send")
    line = [sys.executable, "-m", "gateway", "command", *arguments, "--url", program.operations, "--token", token]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_lamp_is_switched_from_the_command_line(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program, answering(program, "lamp-1") as lamp:
        done = command(program, "lamp-1", "switch", '{"on": true}')
        assert (done.returncode, json.loads(done.stdout)) == (0, {"on": True}), done.stderr
        again = [
            command(program, "lamp-1", "switch", '{"on": 1}', "--key", "k", "--idempotent", "--deadline", "30s")
            for _ in range(2)
        ]
        assert [json.loads(each.stdout) for each in again] == [{"on": 1}] * 2, again
        other = command(program, "lamp-1", "switch", '{"on": 2}', "--key", "k", "--deadline", "30s")
        assert (other.returncode, "422" in other.stderr) == (1, True), other.stderr
        failed = command(program, "lamp-1", "fail", '{"code": "jammed"}')
        assert failed.returncode == 1
        assert "the device answered an error of its own" in failed.stderr
        slow = command(program, "lamp-1", "slow", '{"s": 30}', "--deadline", "1s")
        assert slow.returncode == 1
        assert "no result by the deadline" in slow.stderr
        assert command(program, "lamp-2", "switch").returncode == 1
        bad = command(program, "lamp-1", "switch", "{")
        assert (bad.returncode, "is not JSON" in bad.stderr) == (2, True)
        lamp.terminate()
        lamp.wait(20)
        eventually(lambda: "not connected" in command(program, "lamp-1", "switch").stderr)
        counted = program.metrics()
        assert counted['heiwa_commands_total{outcome="done"}'] == 2, "the key's only once"
        assert counted["heiwa_commands_in_flight"] == 0
        assert program.terminate() == 0


def test_an_app_commands_and_watches_over_its_own_websocket(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program, answering(program, "lamp-1"):
        with program.connect("app", scope="command:send location:read") as app:
            ask = {"type": "command", "id": "1", "device": "lamp-1", "name": "switch", "args": {"on": True}}
            send(app, ask)
            assert receive(app) == {"type": "result", "id": "1", "ok": True, "value": {"on": True}}
            send(app, {**ask, "name": "fail", "args": {"code": "jammed"}})
            failed = receive(app)
            assert (failed["id"], failed["ok"], failed["error"]["code"]) == ("1", False, "jammed")
            send(app, {**ask, "device": "lamp-2"})
            assert (unknown := receive(app))["code"] == "unknown", unknown
            send(app, {"type": "subscribe", "channel": "device:lamp-1"})
            assert receive(app, "subscribed")["snapshot"]["connected"]
            send(app, {"type": "subscribe", "channel": "device:lamp-2"})
            assert receive(app, "error")["code"] == "not_found"
        with program.connect("app", scope="command:send", account="other") as stranger:
            send(stranger, ask)
            assert receive(stranger)["code"] == "unknown"
        eventually(lambda: program.metrics()["heiwa_channels"] == 0)
        assert program.terminate() == 0


def test_a_client_that_only_receives_commands_is_let_in(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        with program.connect("lamp-1", scope="command:receive") as connection:
            token = program.token("app", "command:send")
            line = [sys.executable, "-m", "gateway", "command", "lamp-1", "ring", "--url", program.operations]
            asking = subprocess.Popen([*line, "--token", token], cwd=ROOT, stdout=subprocess.PIPE)
            asked = receive(connection, "command")
            assert (asked["name"], asked["args"]) == ("ring", None)
            send(connection, {"type": "result", "command": asked["id"], "ok": True, "value": "rung"})
            out, _ = asking.communicate(timeout=60)
            assert json.loads(out) == "rung"
        assert program.terminate() == 0
