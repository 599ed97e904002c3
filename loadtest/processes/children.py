"""Subprocesses of a run. They have sessions of their own, so that Ctrl-C reaches the conductor alone, and end when the
conductor does, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest import bounded

_PR_SET_PDEATHSIG = 1
# One sample of a fleet may hold three histograms.
LINE_LIMIT_BYTES = 1 << 20
_libc = ctypes.CDLL(None)


async def start(
    command: Sequence[str],
    log: Path,
    *,
    stdin: bool = False,
    environment: Mapping[str, str] | None = None,
    files: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    """Start a process with standard error in `log` and standard output for the caller.

    `environment` None: that of this process. The process gets the descriptors `files` under the same numbers.
    """
    with log.open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=environment,
            pass_fds=files,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            limit=LINE_LIMIT_BYTES,
        )


async def end(process: asyncio.subprocess.Process, within_s: float) -> int:
    """Wait up to `within_s` for the end of a process, then kill it. Returns the exit code."""
    try:
        return await asyncio.wait_for(process.wait(), within_s)
    except TimeoutError:
        send_signal(process, signal.SIGKILL)
        return await process.wait()


def send_signal(process: asyncio.subprocess.Process, number: int) -> None:
    """Send a signal; harmless when the process has ended.

    The process's own `send_signal`, `terminate` and `kill` first collect the exit code of a process that has just
    ended, so that `wait` returns 255 (CPython issue 87744).
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def last_lines(log: Path, count: int = 5) -> str:
    """The last lines of a log, for a message; empty without a log."""
    try:
        return "\n".join(bounded.tail(log, LINE_LIMIT_BYTES).splitlines()[-count:])
    except OSError:
        return ""


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
