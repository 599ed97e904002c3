"""Servers of tests as subprocesses: each prints `ready PORT` once it listens."""

from __future__ import annotations

import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
_START_S = 30
_STOP_S = 10


@contextmanager
def server(module: str, arguments: Sequence[str | Path]) -> Iterator[int]:
    """Run `python -m module` while the block lasts; yields its port."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield _port(process, module)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _port(process: subprocess.Popen[str], module: str) -> int:
    assert process.stdout is not None
    deadline_s = time.monotonic() + _START_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline_s - time.monotonic())):
            line = process.stdout.readline()
            if line.startswith("ready "):
                return int(line.split()[1])
            assert line, f"{module} ended with {process.wait()} before it was ready"
    raise AssertionError(f"{module} was not ready within {_START_S} s")
