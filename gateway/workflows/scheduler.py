"""Begins the runs of schedules. What is due stands in the store; a run's key says for which time it is, so that whoever
begins it a second time begins nothing."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import StoreError, TooManyRunsError
from gateway.telemetry.log import Log
from gateway.workflows.again import again
from gateway.workflows.definition import load
from gateway.workflows.ports import WorkflowStore
from gateway.workflows.records import DueSchedule
from gateway.workflows.schedule import MAX_TIMES, chosen, ms_of, run_key
from gateway.workflows.service import RunRefusedError, Schedules, WorkflowService
from gateway.workflows.spec import Schedule

POLL_S = 1.0
_DUE = 100
_AGAIN_MS = 600_000
_log = Log("workflows")


class Turn(NamedTuple):
    """What a schedule comes to: `runs` begin now, and it is due again at `next_ms` (None: never)."""

    runs: list[datetime]
    done_ms: int
    next_ms: int | None


class Scheduler:
    def __init__(self, store: WorkflowStore, service: WorkflowService, clock: Clock, schedules: Schedules) -> None:
        self._store = store
        self._service = service
        self._clock = clock
        self._schedules = schedules

    async def run(self) -> None:
        """Until cancelled."""
        await again(self.turn, POLL_S)

    async def turn(self) -> None:
        """Begin what is due. Raises StoreError."""
        for due in await self._store.due_schedules(self._clock.time_ms(), _DUE):
            try:
                await self._begin(due)
            except StoreError:
                raise
            except TooManyRunsError as error:
                _log.warning("workflow_schedule_waits", definition=due.name, message=str(error))
                await self._store.move_schedule(due, due.done_ms, self._clock.time_ms() + _AGAIN_MS)
            except Exception as error:
                # Its definition is of a later version, or its time zone is not known here. What it misses meanwhile is
                # missed as if nobody had been there; the others begin.
                _log.error("workflow_schedule_failed", exc_info=error, definition=due.name)
                await self._store.move_schedule(due, due.done_ms, self._clock.time_ms() + _AGAIN_MS)

    async def _begin(self, due: DueSchedule) -> None:
        stored = await self._store.definition(due.account, due.name)
        schedule = None if stored is None else load(stored.spec).spec.schedule
        if schedule is None:
            await self._store.move_schedule(due, due.done_ms, None)
            return
        turn = turn_of(schedule, due.done_ms, due.now_ms, self._schedules)
        for time in turn.runs:
            try:
                key = run_key(due.name, time)
                await self._service.create(due.account, due.name, None, schedule.input, key)
            except RunRefusedError as error:
                # A run of another version has the key; it is the run for this time.
                _log.info("workflow_schedule_ignored", definition=due.name, message=str(error))
        # Only now: what is begun a second time after a crash has the same keys.
        await self._store.move_schedule(due, turn.done_ms, turn.next_ms)


def turn_of(schedule: Schedule, done_ms: int, now_ms: int, schedules: Schedules) -> Turn:
    """What is to be done of a schedule whose times up to `done_ms` were seen to."""
    found = schedules.times(schedule.cron, schedule.time_zone, done_ms, now_ms, MAX_TIMES)
    past = [time for time in found if ms_of(time) <= now_ms]
    following = [time for time in found if ms_of(time) > now_ms]
    if not following and past:
        # There are more than are looked at in one turn.
        runs = past if schedule.missed == "all" else []
        return Turn(runs, ms_of(past[-1]), ms_of(past[-1]))
    done = ms_of(past[-1]) if past else done_ms
    return Turn(chosen(past, now_ms, schedule.missed), done, ms_of(following[0]) if following else None)
