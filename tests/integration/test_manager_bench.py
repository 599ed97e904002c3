"""The measurements of a manager, small: that they run, and that nothing is far from what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest


def measured(*arguments: str, module: str = "manager") -> dict[str, Any]:
    command = [sys.executable, "-m", f"loadtest.bench.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_run_that_waits_takes_less_than_a_kilobyte() -> None:
    found = measured("waiting", "--runs", "5000", "--idle-s", "0.5")
    assert 0 < found["bytes_a_run"] <= 1024
    assert found["first_timer_s"] < 20


def test_a_process_a_run_takes_thousands_of_times_as_much() -> None:
    found = measured("--processes", "2", "--runs", "2000", module="run_processes")
    assert found["process_bytes"] > 2 * found["lean_process_bytes"] > 5_000_000
    assert found["lean_process_bytes"] > 1_000 * found["bytes_a_run"]


def test_a_long_run_stays_quick() -> None:
    found = measured("long", "--runs", "3000")
    assert (found["status"], found["events"]) == ("ok", 9004)
    # Linear would be the same; quadratic would be 19 times as long.
    assert found["last_tenth_cpu_s"] < 8 * found["first_tenth_cpu_s"] + 0.2


@pytest.mark.parametrize("what", ["timers", "hog"])
def test_timers_are_on_time(what: str) -> None:
    found = measured(what, "--runs", "100", "--hog-s", "6")
    assert found["timers"] >= 400
    # The bound is for a busy machine; docs/benchmarks.md has what was measured.
    assert found["late_p99_ms"] < 5_000
