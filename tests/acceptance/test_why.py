"""`heiwa why`: why a device dropped survives restarts, whatever ended the program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.process import ROOT
from tests.support.program import Program, eventually


def why(program: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    token = program.token("me", "device:read")
    line = [sys.executable, "-m", "gateway", "why", *arguments, "--url", program.operations, "--token", token]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def past(program: Program, device: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(why(program, device, "--json").stdout)["connections"]
    return found


def written(program: Program) -> bool:
    return program.metrics()["heiwa_history_due"] == 0


def test_a_lamp_tells_why_it_dropped_after_a_stop_and_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with Program(folder) as program:
        unknown = why(program, "lamp-1")
        assert (unknown.returncode, "nothing is known of such a device" in unknown.stderr) == (1, True)
        with program.connect("lamp-1"):
            # It is written in batches.
            eventually(lambda: why(program, "lamp-1").stdout.startswith("lamp-1 is connected to "))
        eventually(lambda: program.metrics()["heiwa_connections"] == 0)
        with program.connect("lamp-1"):
            assert program.terminate() == 0
    with Program(folder) as program:
        told = why(program, "lamp-1").stdout
        assert told.startswith("lamp-1 is not connected. Its last connection began at ")
        assert "because its gateway was stopped (it was told to end by SIGTERM at " in told
        newest, older = past(program, "lamp-1")
        assert (newest["reason"], newest["fault"], newest["drain"]["origin"]) == ("shutdown", "plan", "sigterm")
        assert (older["reason"], older["code"], older["drain"]) == ("closed_by_peer", 1000, None)
        assert newest["gateway"] == older["gateway"]
        with program.connect("lamp-1"):
            eventually(lambda: written(program) and len(past(program, "lamp-1")) == 3)
            program.kill()
    with Program(folder) as program:
        assert "how it ended is not known: its gateway was cut off" in why(program, "lamp-1").stdout
        newest, *_ = past(program, "lamp-1")
        assert (newest["disconnected_ms"], newest["reason"]) == (None, None)
        # A store that lost its content is begun anew, and the old file kept.
        program.kill()
    (folder / "history.db").write_bytes(b"no database" * 1000)
    with Program(folder) as program:
        assert why(program, "lamp-1").returncode == 1
        assert (folder / "history.db.damaged").exists()
        assert program.terminate() == 0
