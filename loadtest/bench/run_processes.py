"""One process a run, as workflows were run once, beside one manager: what it takes to wait for a retry.

`python -m loadtest.bench.run_processes [--processes 50] [--runs 100000]`, one line of JSON. Real processes are started,
each with a run that waits: once with a client of AWS and one of HTTP, as a worker needs them to submit and poll its
jobs, once with what Python has itself. Memory is proportional (PSS): what they share is counted once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from loadtest.bench.manager import proportional_bytes

_LEAN = """
import json, sys, time, urllib.request
run = json.loads(sys.argv[1])
"""
_CLIENTS = """
import botocore.session, urllib3
keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
batch = botocore.session.get_session().create_client("batch", "eu-west-1", **keys)
http = urllib3.PoolManager()
"""
_WAIT = """
run["due"] = time.time() + run["wait_s"]
print("ready", flush=True)
sys.stdin.read()
"""
_RUN = {
    "id": "0199c0de-0000-7000-8000-000000000000",
    "definition": {"name": "late", "nodes": {"a": {"run": {"process": {"command": ["true"]}}}}},
    "input": {},
    "rows": {"a": {"status": "waiting", "attempt": 1, "error": "not yet"}},
    "wait_s": 86_400,
}


def processes(count: int, program: str) -> float:
    """Bytes of each, of so many at once."""
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(count):
            command = [sys.executable, "-c", program, json.dumps(_RUN)]
            one = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            started.append(stack.enter_context(one))
            stack.callback(one.kill)
        for one in started:
            if one.stdout is None or one.stdout.readline() != b"ready\n":
                raise RuntimeError("a process did not begin")
        return sum(proportional_bytes(one.pid) for one in started) / count


def manager(runs: int) -> dict[str, Any]:
    """A manager with so many runs that wait."""
    command = [sys.executable, "-m", "loadtest.bench.manager", "waiting", "--runs", str(runs), "--idle-s", "1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(count: int, runs: int) -> dict[str, Any]:
    few, many = manager(count), manager(runs)
    return {
        "processes": count,
        "process_bytes": round(processes(count, _LEAN + _CLIENTS + _WAIT)),
        "lean_process_bytes": round(processes(count, _LEAN + _WAIT)),
        "manager_of_as_many_bytes": few["process_bytes"],
        "runs": runs,
        "manager_bytes": many["process_bytes"],
        "bytes_a_run": many["bytes_a_run"],
    }


def table(row: Mapping[str, Any]) -> list[str]:
    """In Markdown; the last column says how many runs of ours take as much."""
    count, runs = row["processes"], row["runs"]
    ours = row["manager_bytes"] / runs
    kinds = {
        f"one process a run, with clients of AWS and HTTP ({count} real ones)": row["process_bytes"],
        f"one process a run, Python alone ({count} real ones)": row["lean_process_bytes"],
        f"one manager of {count} runs, the whole process": row["manager_of_as_many_bytes"] / count,
        f"**one manager of {runs:,} runs, the whole process**": ours,
        "each further run": row["bytes_a_run"],
    }
    return [
        "| a run that waits for a retry | bytes a run | times ours |",
        "| --- | ---: | ---: |",
        *(f"| {kind} | {size:,.0f} | {size / ours:,.1f} |" for kind, size in kinds.items()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--runs", type=int, default=100_000)
    given = parser.parse_args()
    print(json.dumps(measure(given.processes, given.runs)), flush=True)


if __name__ == "__main__":
    main()
