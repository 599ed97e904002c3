"""One manager with a runner that ends everything at once: what is left is the work of the manager and its store.

`python -m loadtest.bench.runs_manager URL [--runs 5000] [--at-once 1000] [--found]`, one line of JSON. A run has two
nodes, one behind the other, and is stored when it is created, before each attempt begins, and at each result. The
runners `device` and `http` work so. `--found`: as `process` does, where an attempt will be found is stored, too, before
it begins.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import uvloop

from gateway.adapters import cron
from gateway.adapters.clock import SystemClock
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.adapters.yaml_source import read_yaml
from gateway.connections.housekeeping import settle_collector
from gateway.workflows.manager import Manager
from gateway.workflows.ports import NodeRunner, Report
from gateway.workflows.records import Change
from gateway.workflows.run import Attempt
from gateway.workflows.service import WorkflowService
from gateway.workflows.states import is_run_over
from gateway.workflows.step import Finished, Submitted

WARM_RUNS = 200
_WORK = {"run": {"device": {"id": "bench", "command": "nothing"}}}
DEFINITION = json.dumps({"name": "two", "nodes": {"first": _WORK, "second": {**_WORK, "needs": ["first"]}}})


class InstantRunner:
    """See `gateway.workflows.ports.NodeRunner`. `found`: where an attempt will be found is stored before it begins."""

    name = "device"
    for_admins = False
    deduplicates = True
    movable = True

    def __init__(self, report: Report, *, found: bool) -> None:
        self._report = report
        self._found = found

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        return ""

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        self._report(run, Submitted(attempt, "bench"))
        if not self._found:
            self._report(run, Finished(attempt, {}))

    async def proceed(self, run: str, attempt: Attempt) -> None:
        if self._found:
            self._report(run, Finished(attempt, {}))

    async def adopt(
        self,
        run: str,
        account: str,
        attempt: Attempt,
        external: str | None,
        work: Mapping[str, Any],
        *,
        wanted: bool = True,
    ) -> None:
        self._report(run, Finished(attempt, {}))

    async def stop(self, run: str, attempt: Attempt) -> None:
        """Nothing is at work."""

    async def forget(self, attempts: Sequence[str]) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is held."""


class Bench:
    """`play` runs until they are over."""

    def __init__(self, url: str, *, found: bool = False) -> None:
        parsed = parse_url(url)
        self._store = SqlWorkflowStore(parsed)
        self._clock = SystemClock()
        self._over = 0
        self._changed = asyncio.Event()
        runners: dict[str, NodeRunner] = {}
        self._manager = Manager(self._store, runners, self._clock, "local", "bench", moved=self._moved)
        runners["device"] = InstantRunner(self._manager.report, found=found)
        chance = Random(1)
        self._service = WorkflowService(
            self._store,
            runners,
            self._clock,
            chance,
            read_yaml,
            cron,
            lambda: self._manager.name,
            self._manager.notice,
            self._manager.begin,
        )

    async def start(self) -> None:
        await self._store.open()
        await self._manager.start()
        self._running = asyncio.create_task(self._manager.run(), name="manager")
        await self._service.put("bench", DEFINITION, yaml=False, admin=True, dry_run=False)

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._store.close()

    def _moved(self, change: Change, now_ms: int) -> None:
        if is_run_over(change.state.status):
            self._over += 1
            self._changed.set()

    async def play(self, runs: int, at_once: int) -> None:
        """Begin so many runs, at most so many of them open at a time."""
        end, begun = self._over + runs, 0
        asking: set[asyncio.Task[Any]] = set()
        while self._over < end:
            while begun < runs and begun - (self._over - end + runs) < at_once:
                begun += 1
                task = asyncio.create_task(self._service.create("bench", "two", None, {}, None))
                asking.add(task)
                task.add_done_callback(asking.discard)
            self._changed.clear()
            await self._changed.wait()
        await asyncio.gather(*asking)


async def measure(url: str, runs: int, at_once: int, *, found: bool) -> dict[str, float]:
    bench = Bench(url, found=found)
    await bench.start()
    try:
        await bench.play(WARM_RUNS, at_once)
        # As the program does once it has started.
        settle_collector()
        before, began_s = _cpu_s(), time.monotonic()
        await bench.play(runs, at_once)
        took_s, cpu_s = time.monotonic() - began_s, _cpu_s() - before
    finally:
        await bench.stop()
    return {"runs": runs, "runs_per_s": runs / took_s, "cpu_ms": 1000 * cpu_s / runs, "seconds": took_s}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--runs", type=int, default=5_000)
    parser.add_argument("--at-once", type=int, default=1_000)
    parser.add_argument("--found", action="store_true", help="store where an attempt will be found before it begins")
    given = parser.parse_args()
    print(json.dumps(uvloop.run(measure(given.url, given.runs, given.at_once, found=given.found))), flush=True)


if __name__ == "__main__":
    main()
