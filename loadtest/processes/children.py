"""Subprocesses of a run: started in a session of their own, so that Ctrl-C reaches the conductor alone; they end when
the conductor does, however it ends."""

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
    """Standard error goes to `log`, standard output is read by the caller. `environment` None: that of this process.

    `files` are descriptors that it gets under the same numbers.
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
    """Wait for the end; kill what has not ended by then. Returns the exit code."""
    try:
        return await asyncio.wait_for(process.wait(), within_s)
    except TimeoutError:
        send_signal(process, signal.SIGKILL)
        return await process.wait()


def send_signal(process: asyncio.subprocess.Process, number: int) -> None:
    """Harmless when it has ended.

    Its own `send_signal`, `terminate` and `kill` first collect the exit code of one that has just ended, so that who
    waits for it is told 255 (CPython issue 87744).
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for a message; empty when there is none."""
    try:
        return "\n".join(bounded.tail(log, LINE_LIMIT_BYTES).splitlines()[-count:])
    except OSError:
        return ""


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
