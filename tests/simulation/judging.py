"""What has to be true of a simulation once all runs are over: the store against the ledger of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from gateway.workflows.advance import STOP_PATIENCE_S
from gateway.workflows.definition import WORKFLOW, Definition, runner_of
from gateway.workflows.run import WHOLE, Attempt, Key
from gateway.workflows.states import is_node_over, is_run_over
from gateway.workflows.step import Finished, Kind
from gateway.workflows.values import top
from tests.simulation.world import Job, World


async def judge(world: World, store: Any, account: str, runs: list[str], made: Mapping[str, Definition]) -> None:
    """Raises AssertionError. Nested runs are judged with those that they belong to."""
    waiting = list(runs)
    for run in waiting:
        detail = await store.run(account, run)
        assert detail is not None, f"{run} is missing"
        if run not in runs:
            # Its parent may have lost patience with it.
            detail = await _over(store, account, detail)
        assert is_run_over(detail.state.status), f"{run} is {detail.state.status} although its parent is over"
        events = await _events(store, account, run)
        assert [record.revision for record in events] == list(range(1, detail.state.revision + 1)), f"{run}: a gap"
        waiting += [
            one.event.run for one in events if one.event.run is not None and await store.run(account, one.event.run)
        ]
        definition = made[detail.summary.name]
        jobs = {job.attempt: job for job in world.jobs.values() if job.run == run}
        _of_rows(run, detail.state.rows, jobs, definition)
        _of_order(run, jobs, definition, detail.state.rows)
        _of_events(run, events, jobs, skewed=world.skewed)


async def _over(store: Any, account: str, detail: Any) -> Any:
    end_s = asyncio.get_running_loop().time() + 2 * STOP_PATIENCE_S
    while not is_run_over(detail.state.status) and asyncio.get_running_loop().time() < end_s:
        await asyncio.sleep(7)
        detail = await store.run(account, detail.summary.id)
    return detail


async def _events(store: Any, account: str, run: str) -> list[Any]:
    """As a subscriber reads them: page by page."""
    found: list[Any] = []
    while page := await store.events(account, run, len(found), 3):
        found += page
    return found


def _of_rows(run: str, rows: Mapping[Key, Any], jobs: Mapping[Attempt, Job], definition: Definition) -> None:
    for key, row in rows.items():
        assert is_node_over(row.status), f"{run} {key} is {row.status}"
        if key.iteration == WHOLE or runner_of(definition.nodes[key.path]) == WORKFLOW:
            continue
        numbers = [attempt.number for attempt in jobs if attempt.key == key]
        assert max(numbers, default=0) <= row.attempt, f"{run} {key}: a job that no attempt stands for"
        if row.status == "ok":
            last = jobs[Attempt(key.path, key.iteration, row.attempt)]
            assert isinstance(last.outcome, Finished), f"{run} {key} is ok, its job was not"
    for attempt in jobs:
        assert attempt.key in rows, f"{run} {attempt}: a job of nothing"


def _of_order(run: str, jobs: Mapping[Attempt, Job], definition: Definition, rows: Mapping[Key, Any]) -> None:
    """Attempts follow each other, and what is needed is over first."""
    for attempt, job in jobs.items():
        before = jobs.get(attempt._replace(number=attempt.number - 1))
        if before is not None:
            assert before.ended_s is not None, f"{run} {attempt} begins while the one before is at work"
            assert before.ended_s <= job.begun_s, f"{run} {attempt} begins while the one before is at work"
        for needed in definition.nodes[attempt.path].needs:
            if definition.nodes[needed].on_error != "fail":
                # It may be done again by a resume, and this one not.
                continue
            row = rows[top(definition.nodes[needed], needed)]
            ends = [one.ended_s for one in jobs.values() if one.attempt.path == needed and row.status == "ok"]
            assert all(end is not None and end <= job.begun_s for end in ends), (
                f"{run} {attempt} did not wait for {needed}"
            )


def _of_events(run: str, events: list[Any], jobs: Mapping[Attempt, Job], *, skewed: bool) -> None:
    """What the events tell is what was done: one start for each attempt, and none behind a cancel."""
    cancelling = False
    started: set[Attempt] = set()
    for record in events:
        event = record.event
        if event.kind in (Kind.RUN_CANCELLING, Kind.RUN_CANCELLED, Kind.RUN_FAILING):
            cancelling = True
        if event.kind is Kind.RUN_RESUMED:
            cancelling = False
        if event.kind is Kind.ATTEMPT_STARTED:
            attempt = Attempt(event.node, event.iteration or 0, event.attempt)
            assert not cancelling, f"{run} {attempt} was begun by a run that ends"
            assert attempt not in started, f"{run} {attempt} was begun twice"
            started.add(attempt)
    assert set(jobs) <= started, f"{run}: jobs that no event tells of: {set(jobs) - started}"
    for before, after in pairwise(events):
        assert skewed or before.time_ms <= after.time_ms, f"{run}: time goes back at {after.revision}"
