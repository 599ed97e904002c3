"""A drain begun by a person, from the command line and by signal, on the whole program."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.support.program import Program, eventually, location, refusal, send


def heiwa_drain(program: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "drain", *arguments, "--set", f"data.folder={program.folder}"]
    command += ["--url", program.operations]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def status(program: Program) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(heiwa_drain(program, "status", "--json").stdout)
    return found


def read_to_the_end(connection: ClientConnection, seen: list[dict[str, Any]]) -> None:
    with pytest.raises(ConnectionClosed):
        while True:
            seen.append(json.loads(connection.recv(30)))


def test_plan_start_watch_and_what_it_left(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(program.connect(f"dev-{number}")) for number in range(6)]
            planned = heiwa_drain(program, "plan", "--window", "3")
            assert "6 connections over 3 s" in planned.stdout
            send(connections[0], location("last"))
            seen: list[list[dict[str, Any]]] = [[] for _ in connections]
            readers = [
                threading.Thread(target=read_to_the_end, args=(connection, messages))
                for connection, messages in zip(connections, seen, strict=True)
            ]
            for reader in readers:
                reader.start()
            watched = heiwa_drain(program, "start", "--window", "3", "--watch")
            assert watched.returncode == 0, watched.stderr
            assert watched.stdout.splitlines()[-2].startswith("drained: 0 connections")
            for reader in readers:
                reader.join(30)
            for messages in seen:
                goaway = next(message for message in messages if message["type"] == "goaway")
                assert goaway["reason"] == "drain"
            assert any(message["type"] == "ack" for message in seen[0])
        code, headers, problem = refusal(program.connect("new"))
        assert (code, "leaving" in problem["detail"]) == (503, True)
        assert int(headers["Retry-After"]) > 0
        cancelled = heiwa_drain(program, "cancel")
        assert cancelled.stdout.startswith("serving: ")
        with program.connect("new"):
            pass
        again = heiwa_drain(program, "cancel")
        assert again.returncode == 1
        assert "no drain to cancel" in again.stderr
        receipts = sorted((tmp_path / "data").glob("drain-receipt-*"))
        assert [path.suffix for path in receipts][:2] == [".json", ".svg"]
        assert json.loads(receipts[0].read_text())["sent_away"] == 6


def test_sigusr1_drains_and_sigterm_takes_the_rest(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        with program.connect("dev") as connection:
            program.process.send_signal(signal.SIGUSR1)
            eventually(lambda: status(program)["state"] == "draining", what="no drain")
            assert status(program)["progress"]["origin"] == "sigusr1"
            program.process.send_signal(signal.SIGUSR1)
            eventually(lambda: any(event["event"] == "signal_ignored" for event in program.events()))
            program.process.terminate()
            seen: list[dict[str, Any]] = []
            read_to_the_end(connection, seen)
        assert program.process.wait(30) == 0
        assert [message["reason"] for message in seen if message["type"] == "goaway"] == ["shutdown"]
        outcomes = {
            json.loads(path.read_text())["origin"]: json.loads(path.read_text())["outcome"]
            for path in (tmp_path / "data").glob("drain-receipt-*.json")
        }
        assert outcomes == {"sigusr1": "terminated", "sigterm": "terminated"}


def test_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "drain", "status", "--url", "http://127.0.0.1:9", "--token", "x.y.z"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 3
    assert "cannot be reached" in done.stderr
