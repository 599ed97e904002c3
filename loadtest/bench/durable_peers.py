"""Other engines of durable runs, each made from a package registry into `.cache/bench` and started as it is advised.

Versions are pinned here. What cannot be had is named, and left out of the table.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.bench.peers.build import CACHE, MissingToolError
from loadtest.processes.ports import free_port

HERE = Path(__file__).parent / "peers" / "durable"
FOLDER = CACHE / "durable"
DBOS = ("dbos==3.4.0", "psycopg[binary]==3.3.9")
TEMPORAL_SDK = ("temporalio==1.21.1",)
TEMPORAL_SERVER = "github.com/temporalio/cli/cmd/temporal@v1.5.1"
RESTATE = ("@restatedev/restate-server@1.7.12", "@restatedev/restate-sdk@1.17.2")
MAKING_S, PLAYING_S, STARTING_S = 1_800.0, 300.0, 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Peer(NamedTuple):
    """`runs` are fewer than ours where an engine is slow; `at_once` are open at a time."""

    name: str
    title: str
    runs: int
    at_once: int


PEERS = (
    Peer("dbos-sqlite", "DBOS 3.4 (Python), SQLite", 500, 100),
    Peer("dbos-postgresql", "DBOS 3.4 (Python), PostgreSQL", 1_000, 100),
    Peer("restate", "Restate 1.7 (server in Rust, SDK for Node)", 2_000, 200),
    Peer("temporal", "Temporal 1.5 development server (Go, SDK for Python), SQLite file", 500, 100),
)


def play(peer: Peer, postgres_url: str) -> dict[str, Any]:
    """Its line. Raises MissingToolError, RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="heiwa-bench-") as folder:
        if peer.name.startswith("dbos"):
            url = f"sqlite:///{folder}/dbos.db" if peer.name == "dbos-sqlite" else postgres_url
            return _run([_python("dbos", DBOS), str(HERE / "dbos_runs.py"), url], peer)
        if peer.name == "restate":
            return _restate(peer, folder)
        return _temporal(peer, folder)


def _restate(peer: Peer, folder: str) -> dict[str, Any]:
    where = _node()
    ingress, admin, node = free_port(), free_port(), free_port()
    environment = {
        "RESTATE_BASE_DIR": folder,
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
    }
    # The program itself: what npm puts into .bin would be a parent whose CPU says nothing.
    programs = sorted((where / "node_modules/@restatedev").glob("restate-server-*/bin/restate-server"))
    if not programs:
        raise MissingToolError("there is no Restate server for this machine")
    with _server([str(programs[0])], environment, ingress) as server:
        urls = (f"http://127.0.0.1:{ingress}", f"http://127.0.0.1:{admin}")
        return _run([_tool("node"), str(where / "restate_runs.mjs"), *urls], peer, server)


def _temporal(peer: Peer, folder: str) -> dict[str, Any]:
    python, program, port = _python("temporal", TEMPORAL_SDK), _go(), free_port()
    command = [program, "server", "start-dev", "--headless", "--port", str(port), "--db-filename", f"{folder}/t.db"]
    with _server([*command, "--log-level", "error"], {}, port) as server:
        time.sleep(2)
        return _run([python, str(HERE / "temporal_runs.py"), f"127.0.0.1:{port}"], peer, server)


def _run(command: list[str], peer: Peer, server: subprocess.Popen[bytes] | None = None) -> dict[str, Any]:
    """`cpu_ms` a run is that of its server and of the program with the steps, together."""
    before_s = 0.0 if server is None else cpu_s(server.pid)
    given = [*command, str(peer.runs), str(peer.at_once)]
    done = subprocess.run(given, check=False, capture_output=True, text=True, timeout=PLAYING_S)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{peer.title} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    row: dict[str, Any] = json.loads(lines[-1])
    if server is not None:
        row["cpu_ms"] += 1000 * (cpu_s(server.pid) - before_s) / peer.runs
    return row


def cpu_s(pid: int) -> float:
    """User and system, of the process and of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


@contextlib.contextmanager
def _server(command: list[str], environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end_s = time.monotonic() + STARTING_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _python(name: str, packages: tuple[str, ...]) -> str:
    """An interpreter with these packages."""
    folder = FOLDER / name
    program = folder / "bin" / "python"
    if not (folder / "made").exists():
        _make([sys.executable, "-m", "venv", str(folder)], name)
        _make([str(program), "-m", "pip", "install", "-q", *packages], name)
        (folder / "made").touch()
    return str(program)


def _node() -> Path:
    folder = FOLDER / "restate"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "restate_runs.mjs", folder)
    if not (folder / "node_modules").exists():
        _make([_tool("npm"), "install", "--silent", "--prefix", str(folder), *RESTATE], "restate")
    return folder


def _go() -> str:
    folder = FOLDER / "go"
    program = folder / "temporal"
    if not program.exists():
        _make([_tool("go"), "install", TEMPORAL_SERVER], "temporal", {"GOBIN": str(folder)})
    return str(program)


def _make(command: list[str], name: str, environment: dict[str, str] | None = None) -> None:
    given = {**os.environ, **(environment or {})}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=MAKING_S, env=given)
    if done.returncode != 0:
        raise MissingToolError(f"{name} cannot be had: {done.stderr.strip()[-200:]}")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingToolError(f"{name} is not installed")
    return found
