"""Carrying out what was decided, once it is stored: runners are asked, nested runs are told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.telemetry.log import Log
from gateway.workflows.definition import WORKFLOW
from gateway.workflows.names import child_run
from gateway.workflows.ports import NodeRunner, Report, WorkflowStore
from gateway.workflows.records import SignalKind
from gateway.workflows.step import Adopt, Command, Failed, Proceed, StartChild, Stop, Submit

WORKERS = 16
_PAUSE_S = 1.0
_log = Log("workflows")


class _Effect(NamedTuple):
    run: str
    account: str
    command: Command | Adopt


class Effects:
    """Some at a time; those of one run begin in their order. `report` is told of an attempt that could not begin.

    Nothing is done while `may_act` says no: near its end a lease may be somebody else's by the time a runner is asked.
    """

    def __init__(
        self,
        runners: Mapping[str, NodeRunner],
        store: WorkflowStore,
        clock: Clock,
        report: Report,
        may_act: Callable[[], bool],
    ) -> None:
        self._runners = runners
        self._store = store
        self._clock = clock
        self._report = report
        self._may_act = may_act
        self._waiting: deque[_Effect] = deque()
        self._more = asyncio.Event()

    def add(self, run: str, account: str, commands: Iterable[Command | Adopt]) -> None:
        """Carry them out soon."""
        self._waiting.extend(_Effect(run, account, command) for command in commands)
        if self._waiting:
            self._more.set()

    def clear(self) -> None:
        """What was not begun is somebody else's to begin."""
        self._waiting.clear()

    async def run(self) -> None:
        """Until cancelled; what is under way then may or may not have begun, as after a crash."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"workflow effects {number}")

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._more.clear()
                await self._more.wait()
            if not self._may_act():
                await asyncio.sleep(_PAUSE_S)
                continue
            effect = self._waiting.popleft()
            try:
                await self._carry_out(*effect)
            except Exception as error:
                # One bad attempt is no reason to stop the others.
                _log.error("workflow_effect_failed", exc_info=error, run=effect.run, node=effect.command.attempt.path)
                if not isinstance(effect.command, Stop):
                    said = f"could not be asked for: {type(error).__name__}: {error}"
                    self._report(effect.run, Failed(effect.command.attempt, said))

    async def _carry_out(self, run: str, account: str, command: Command | Adopt) -> None:
        attempt = command.attempt
        if isinstance(command, StartChild):
            return
        if command.runner == WORKFLOW:
            if isinstance(command, Stop):
                await self._cancel_child(child_run(run, attempt), command.reason)
            return
        runner = self._runners.get(command.runner)
        if runner is None:
            self._report(run, Failed(attempt, f"the runner {command.runner} is off here", again=False, lost=True))
        elif isinstance(command, Submit):
            await runner.submit(run, account, attempt, command.work)
        elif isinstance(command, Proceed):
            await runner.proceed(run, attempt)
        elif isinstance(command, Adopt):
            await runner.adopt(run, account, attempt, command.external, command.work)
        else:
            await runner.stop(run, attempt)

    async def _cancel_child(self, run: str, why: str) -> None:
        while True:
            try:
                await self._store.signal(run, SignalKind.CANCEL, why, self._clock.time_ms())
            except StoreError as error:
                _log.warning("workflow_store_away", message=str(error))
                await asyncio.sleep(_PAUSE_S)
            else:
                return
