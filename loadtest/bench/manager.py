"""What one manager costs and how late it is: runs that wait, timers with and without a hog, one long run.

`python -m loadtest.bench.manager waiting|timers|hog|long [--runs N] [--store-url URL]` prints a JSON line. The store is
a new SQLite file; `--store-url` names an empty PostgreSQL database. Jobs are done by a runner that answers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from gateway.adapters.clock import SystemClock
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.workflows.advance import advance
from gateway.workflows.definition import Definition, compile_spec, digest, stored
from gateway.workflows.figures import ManagerFigures
from gateway.workflows.folding import Folding
from gateway.workflows.manager import Manager
from gateway.workflows.records import Lease, NewRun
from gateway.workflows.run import Attempt, State
from gateway.workflows.spec import Spec
from gateway.workflows.states import is_run_over
from gateway.workflows.step import Begin, Failed, Finished, Happening, Submitted

ACCOUNT, NAME = "bench", "bench"
BATCH = 256
HOUR_MS = 3_600_000


class Jobs:
    """A runner that begins nothing; `seen` has when each attempt was asked for, `cpu_s` what this process had used by
    then. A first attempt fails if `failing`."""

    name = "process"
    for_admins = False
    deduplicates = True
    movable = True

    def __init__(self, *, failing: bool) -> None:
        self.report: Any = None
        self.failing = failing
        self.seen: dict[tuple[str, int], float] = {}
        self.cpu_s: list[float] = []
        self.first = asyncio.Event()

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        return ""

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        self.seen.setdefault((f"{run}[{attempt.iteration}]", attempt.number), time.time())
        self.cpu_s.append(time.process_time())
        self.first.set()
        self.report(run, Submitted(attempt, "here"))
        fails = self.failing and attempt.number == 1
        ended: Happening = Failed(attempt, "not yet") if fails else Finished(attempt, {"n": attempt.iteration})
        self.report(run, ended)

    async def proceed(self, run: str, attempt: Attempt) -> None:
        """It is over."""

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
        await self.submit(run, account, attempt, work)

    async def stop(self, run: str, attempt: Attempt) -> None:
        """It is over."""

    async def forget(self, attempts: Sequence[str]) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is held."""


def definition(name: str, **fields: Any) -> Definition:
    """One node `a`."""
    node = {"run": {"process": {"command": ["true"]}}, **fields}
    return compile_spec(msgspec.convert({"name": name, "nodes": {"a": node}}, Spec))


async def opened(url: str, *made: Definition) -> SqlWorkflowStore:
    store = SqlWorkflowStore(parse_url(url))
    await store.open()
    for one in made:
        spec = stored(one.spec)
        await store.put_definition(ACCOUNT, one.spec.name, spec, digest(spec), 0)
    return store


async def wait_for_retry(store: SqlWorkflowStore, lease: Lease, made: Definition, names: Sequence[str]) -> None:
    """Store runs whose first attempt has failed and that wait for the next, as a manager stores them."""
    now_ms = round(time.time() * 1000)
    for at in range(0, len(names), BATCH):
        some = names[at : at + BATCH]
        news = [NewRun(name, ACCOUNT, made.spec.name, None, {}, now_ms) for name in some]
        await store.create(news, lease.manager)
        changes = []
        for name in some:
            folding = Folding(State(name, made.spec.name, 1, {}))
            for happening in (Begin(), Failed(Attempt("a", 0, 1), "not yet")):
                folding.add(advance(made, folding.state, happening, now_ms))
            changes.append(folding.change(1, ACCOUNT, 0, None, now_ms))
        if len(await store.commit(lease, changes, now_ms)) != len(some):
            raise RuntimeError("runs were not stored")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def proportional_bytes(pid: int | str = "self") -> int:
    """What a process takes; what it shares with others is divided among them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def begin(store: SqlWorkflowStore, jobs: Jobs, figures: ManagerFigures | None = None) -> Manager:
    manager = Manager(store, {"process": jobs}, SystemClock(), "local", "bench", figures=figures)
    jobs.report = manager.report
    return manager


# Runs that wait


async def prepare_waiting(url: str, runs: int) -> None:
    """All wait for hours, one for a moment."""
    made = definition("late", retry={"max_attempts": 3, "wait_s": 86_400, "max_wait_s": 86_400})
    soon = definition("soon", retry={"max_attempts": 3, "wait_s": 0.001})
    store = await opened(url, made, soon)
    lease = await store.register("local", "before", 30)
    await wait_for_retry(store, lease, made, [f"late-{number:031}" for number in range(runs)])
    await wait_for_retry(store, lease, soon, [f"soon-{0:031}"])
    await store.close()


async def measure_waiting(url: str, runs: int, idle_s: float) -> dict[str, Any]:
    """In a process of its own: memory, and the first timer."""
    began_s = time.perf_counter()
    store = await opened(url)
    await store.definitions(ACCOUNT, "", 10)
    before = resident_bytes()
    jobs = Jobs(failing=False)
    manager = begin(store, jobs)
    await manager.start()
    moving = asyncio.create_task(manager.run())
    await jobs.first.wait()
    first_s = time.perf_counter() - began_s
    await asyncio.sleep(min(3.0, idle_s))
    used = resident_bytes() - before
    cpu_s = time.process_time()
    await asyncio.sleep(idle_s)
    idle = (time.process_time() - cpu_s) / idle_s
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    await store.close()
    return {
        "runs": runs,
        "bytes_a_run": round(used / runs),
        "process_bytes": proportional_bytes(),
        "first_timer_s": round(first_s, 2),
        "idle_cpu_share": round(idle, 4),
    }


# Timers


async def timers(url: str, runs: int, hog_s: float) -> dict[str, Any]:
    """Runs that wait for a second or two; `hog_s`: beside a run that wants the loop for so long."""
    waits = [1 + 0.01 * number for number in range(0, 200, 10)]
    made = [
        definition(f"w{at}", retry={"max_attempts": 99, "wait_s": wait, "backoff": 1}) for at, wait in enumerate(waits)
    ]
    store = await opened(url, *made, definition("hog"))
    figures, jobs = ManagerFigures(), Repeating(runs, 5 + round(hog_s / 2.2))
    manager = begin(store, jobs, figures)
    await manager.start()
    if hog_s:
        hold_up(manager, hog_s)
        await store.create([NewRun("hog", ACCOUNT, "hog", None, {}, 0)], "local")
    for at in range(0, runs, BATCH):
        news = [
            NewRun(f"run-{number}", ACCOUNT, f"w{number % len(waits)}", None, {}, 0)
            for number in range(at, min(at + BATCH, runs))
        ]
        await store.create(news, "local")
    moving = asyncio.create_task(manager.run())
    async with asyncio.timeout(600):
        await jobs.done.wait()
    late = sorted(jobs.late(waits))
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    await store.close()
    return {
        "runs": runs,
        "timers": len(late),
        "hog_s": hog_s,
        "late_p50_ms": round(1000 * late[len(late) // 2], 1),
        "late_p99_ms": round(1000 * late[len(late) * 99 // 100], 1),
        "late_max_ms": round(1000 * late[-1], 1),
        "hogs": figures.hogs,
        "slow_calls": figures.slow_calls,
    }


class Repeating(Jobs):
    """Every attempt fails at once, up to the last one: of each run several timers are seen."""

    def __init__(self, runs: int, attempts: int) -> None:
        super().__init__(failing=True)
        self.runs = runs
        self.attempts = attempts
        self.failed: dict[tuple[str, int], float] = {}
        self.over = 0
        self.done = asyncio.Event()

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        now_s = time.time()
        self.seen.setdefault((run, attempt.number), now_s)
        self.report(run, Submitted(attempt, "here"))
        if run == "hog":
            return
        self.failed[run, attempt.number] = now_s
        self.report(run, Failed(attempt, "again") if attempt.number < self.attempts else Finished(attempt))
        if attempt.number == self.attempts:
            self.over += 1
            if self.over == self.runs:
                self.done.set()

    def late(self, waits: Sequence[float]) -> list[float]:
        """Of each attempt but the first: how long after the one before and its wait it was asked for.

        That counts two transactions as well: the failure is stored before the wait begins, the attempt before it is
        asked for.
        """
        return [
            at_s - self.failed[run, number - 1] - waits[int(run[4:]) % len(waits)]
            for (run, number), at_s in self.seen.items()
            if number > 1
        ]


def hold_up(manager: Manager, hog_s: float, slice_s: float = 0.045) -> None:
    """Have each step of the run `hog` take the loop for a slice, and want another one, for `hog_s` in all."""
    slices = manager._slices
    usual, taken = slices._apply, [0.0]

    def slow(run: str, live: Any, folding: Any, told: Any, now_ms: int) -> bool:
        more = usual(run, live, folding, told, now_ms)
        if run != "hog" or taken[0] >= hog_s:
            return more
        end_s = time.perf_counter() + slice_s
        while time.perf_counter() < end_s:
            pass
        taken[0] += slice_s
        return True

    slices._apply = slow  # type: ignore[method-assign]


# One long run


async def long_run(url: str, items: int) -> dict[str, Any]:
    """One run of so many items, three events each: how long its first and its last tenth take."""
    made = definition("long", for_each={"items": "${input.items}", "max_parallel": 50})
    store = await opened(url, made)
    jobs = Jobs(failing=False)
    figures = ManagerFigures()
    manager = begin(store, jobs, figures)
    await manager.start()
    await store.create([NewRun("long", ACCOUNT, "long", None, {"items": list(range(items))}, 0)], "local")
    began_s = time.time()
    moving = asyncio.create_task(manager.run())
    async with asyncio.timeout(600):
        while True:
            found = await store.run(ACCOUNT, "long")
            if found is not None and is_run_over(found.state.status):
                break
            await asyncio.sleep(0.2)
    took_s = time.time() - began_s
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    await store.close()
    if found.state.error is not None:
        raise RuntimeError(found.state.error)
    at, cpu = sorted(jobs.seen.values()), jobs.cpu_s
    part = items // 10
    return {
        "items": items,
        "events": found.state.revision,
        "status": found.state.status,
        "took_s": round(took_s, 1),
        "first_tenth_s": round(at[part] - at[0], 2),
        "last_tenth_s": round(at[-1] - at[-part], 2),
        "first_tenth_cpu_s": round(cpu[part] - cpu[0], 2),
        "last_tenth_cpu_s": round(cpu[-1] - cpu[-part], 2),
        "slow_calls": figures.slow_calls,
        "stood": figures.stood,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("waiting", "measure-waiting", "timers", "hog", "long"))
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--idle-s", type=float, default=10.0)
    parser.add_argument("--hog-s", type=float, default=90.0)
    parser.add_argument("--store-url", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heiwa-bench-") as folder:
        url = given.store_url or f"sqlite:///{folder}/workflows.db"
        print(json.dumps({"store": url.partition(":")[0], **_measured(given, url)}), flush=True)


def _measured(given: Any, url: str) -> dict[str, Any]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if given.what == "waiting":
            runs = given.runs or 100_000
            runner.run(prepare_waiting(url, runs))
            command = [sys.executable, "-m", "loadtest.bench.manager", "measure-waiting", "--store-url", url]
            done = subprocess.run(
                [*command, "--runs", str(runs), "--idle-s", str(given.idle_s)],
                check=True,
                capture_output=True,
                text=True,
            )
            measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return measured
        if given.what == "measure-waiting":
            return runner.run(measure_waiting(url, given.runs, given.idle_s))
        if given.what == "long":
            return runner.run(long_run(url, given.runs or 6_667))
        return runner.run(timers(url, given.runs or 500, given.hog_s if given.what == "hog" else 0.0))


if __name__ == "__main__":
    main()
