"""The exit codes of subprocesses, whenever a signal reaches them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from loadtest.processes import children

TRIES = 100


async def test_a_signal_after_its_end_does_not_cost_the_exit_code(tmp_path: Path) -> None:
    codes = set()
    for _ in range(TRIES):
        process = await children.start(["sh", "-c", "exit 3"], tmp_path / "log")
        # Ended, but its exit code is not collected yet, unless the waiter was faster.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - nobody else is to run
        children.send_signal(process, signal.SIGTERM)
        codes.add(await children.end(process, 10))
    assert codes == {3}


async def test_a_process_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    process = await children.start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    assert await children.end(process, 0.01) == -signal.SIGKILL
    children.send_signal(process, signal.SIGTERM)
    assert process.returncode == -signal.SIGKILL
