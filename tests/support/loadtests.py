"""`heiwa-loadtest` as a person runs it, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

import loadtest
from loadtest.results.result import RunResult
from loadtest.run import folder

ROOT = Path(loadtest.__file__).parents[1]
TIMEOUT_S = 100


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the program with these arguments and warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "loadtest.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def result_of(path: Path) -> RunResult:
    """The result that a run left in its folder."""
    return msgspec.json.decode((path / folder.RESULT).read_bytes(), type=RunResult)
