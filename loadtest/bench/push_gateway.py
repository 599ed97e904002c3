"""A real gateway whose runs are moved on at a fixed pace: what its nodes ask for is finished when it is told to.

`python -m loadtest.bench.push_gateway FOLDER --runs 10000 --per-s 150` prints `ready PORT` once the runs are stored,
their ids in FOLDER/runs. SIGUSR2: begin to finish attempts, so many a second, each of another run; SIGUSR1: no more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from gateway.app.gateway import Gateway
from gateway.app.workflow_parts import WorkflowParts
from gateway.settings.load import load
from gateway.workflows.ports import Report
from gateway.workflows.run import Attempt
from gateway.workflows.step import Finished, Submitted
from loadtest.bench.runs_manager import InstantRunner

ACCOUNT = "bench"
NODES = 20
TICK_S = 0.02


class PacedRunner(InstantRunner):
    """Finishes attempts in the order in which they were asked for, when `finish` says so."""

    def __init__(self, report: Report) -> None:
        super().__init__(report, found=True)
        self._open: deque[tuple[str, Attempt]] = deque()

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        self._report(run, Submitted(attempt, "bench"))

    async def proceed(self, run: str, attempt: Attempt) -> None:
        self._open.append((run, attempt))

    def finish(self, count: int) -> None:
        for _ in range(min(count, len(self._open))):
            run, attempt = self._open.popleft()
            self._report(run, Finished(attempt, {}))


async def serve(folder: Path, runs: int, per_s: float) -> None:
    made: list[tuple[WorkflowParts, PacedRunner]] = []

    def runner(self: WorkflowParts, name: str, report: Report, *_: Any) -> PacedRunner:
        made.append((self, PacedRunner(report)))
        return made[-1][1]

    WorkflowParts._runner = runner  # type: ignore[method-assign, assignment]
    flags = [f"data.folder={folder}", "listen.public=127.0.0.1:0", "listen.operations=127.0.0.1:0", "log.level=error"]
    flags += ["connections.flap_limit=0", f"workflows.store_url=sqlite:///{folder}/workflows.db"]
    gateway = Gateway(load(Path("/dev/null"), {}, flags).settings)
    begin, hold, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR2, begin.set)
    loop.add_signal_handler(signal.SIGUSR1, hold.set)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await gateway.start()
    running = asyncio.create_task(gateway.run(stop), name="gateway")
    ((parts, paced),) = made
    await _store_runs(parts, folder, runs)
    print("ready", gateway.addresses["public"][0].rpartition(":")[2], flush=True)
    pacing = asyncio.create_task(_pace(paced, begin, hold, per_s), name="pace")
    await running
    pacing.cancel()
    await gateway.close()


async def _store_runs(parts: WorkflowParts, folder: Path, runs: int) -> None:
    service = await parts.service()
    work = {"run": {"device": {"id": "bench", "command": "nothing"}}}
    nodes = {f"n{number}": {**work, "needs": [f"n{number - 1}"] if number else []} for number in range(NODES)}
    definition = json.dumps({"name": "chain", "nodes": nodes})
    await service.put(ACCOUNT, definition, yaml=False, admin=True, dry_run=False)
    found: list[str] = []
    for _ in range(0, runs, 500):
        made = await asyncio.gather(*(service.create(ACCOUNT, "chain", None, {}, None) for _ in range(500)))
        found += [one.run for one in made]
    (folder / "runs").write_text("\n".join(found[:runs]))


async def _pace(runner: PacedRunner, begin: asyncio.Event, hold: asyncio.Event, per_s: float) -> None:
    await begin.wait()
    loop = asyncio.get_running_loop()
    began_s, done = loop.time(), 0
    while not hold.is_set():
        await asyncio.sleep(TICK_S)
        due = int((loop.time() - began_s) * per_s)
        runner.finish(due - done)
        done = due


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--per-s", type=float, default=150)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.folder, arguments.runs, arguments.per_s))


if __name__ == "__main__":
    main()
