"""How ECS and the load balancer make old tasks go, step by step, and what goes wrong meanwhile.

`rolling`: deregistered, draining for the delay, SIGTERM. `stop-task` (StopTask): SIGTERM first, deregistered a moment
later. `spot` (Fargate Spot): SIGTERM, still registered until the task is gone. The load balancer cuts what is still
connected to a deregistered task eight seconds after both SIGTERM and the end of the delay; SIGKILL follows the stop
time-out. Times are simulated seconds, but for the ten before SIGKILL: a process needs them to end, at any speed.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from gateway.drain.health import TargetState
from gateway.drain.window import BEFORE_KILL_S
from loadtest.cloud.tasks import GatewayTask

if TYPE_CHECKING:
    from loadtest.cloud.rollout import Rollout

# Seen on ECS: a load balancer cuts the connections of a deregistered task so long after its SIGTERM.
CUT_S = 8.0
# ECS tells the load balancer of a StopTask no sooner.
DEREGISTERED_AFTER_S = 2.0
# Before the end of the delay, when a drain should be over.
LOOK_S = 5.0
# "during": so long after the tasks were told to go.
LOST_S = 20.0


class TaskRemoval:
    """One wave's old tasks; use once."""

    def __init__(self, rollout: Rollout, tasks: Sequence[GatewayTask], mark: Callable[[str], None]) -> None:
        self._rollout = rollout
        self._options = rollout.options
        self._clock = rollout.clock
        self._tasks = tasks
        self._mark = mark
        self._deregistered_s = 0.0

    async def go(self) -> None:
        """Return when all of them are gone, or, when they were called back, when the delay has passed."""
        faults = [asyncio.create_task(fault) for fault in self._faults()]
        try:
            await self._before()
            if self._options.order == "rolling":
                await self._deregister()
                end_s = self._deregistered_s + self._options.delay_s
                await self._clock.until(end_s - LOOK_S)
                # One that stands still does not answer, and SIGTERM does not wait for it.
                faults.append(asyncio.create_task(self._rollout.look(self._tasks)))
                await self._clock.until(end_s)
                if not self._options.faults.reverse_at_s:
                    await self._terminate()
            elif self._options.order == "stop-task":
                await self._terminate(self._deregister_after(DEREGISTERED_AFTER_S))
            else:
                self._deregistered_s = self._clock.now_s()
                await self._terminate()
                await self._deregister()
        finally:
            for fault in faults:
                fault.cancel()
            ended = await asyncio.gather(*faults, return_exceptions=True)
        for failed in ended:
            # A fault that could not be made is no rehearsal of it.
            if isinstance(failed, Exception):
                raise failed

    async def _deregister(self) -> None:
        self._deregistered_s = self._clock.now_s()
        self._mark(f"{len(self._tasks)} old tasks deregistered")
        await self._rollout.balancer.deregister(*(task.address for task in self._tasks))

    async def _deregister_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._deregister()

    async def _terminate(self, meanwhile: Coroutine[Any, Any, None] | None = None) -> None:
        """SIGTERM, the cut, SIGKILL; return when all have ended."""
        self._mark("SIGTERM")
        began_s = self._clock.now_s()
        for task in self._tasks:
            task.gateway.terminate()
        gone = [asyncio.create_task(self._end(task, began_s)) for task in self._tasks]
        if meanwhile is not None:
            await meanwhile
        await asyncio.gather(*gone)
        await asyncio.gather(*(task.close() for task in self._tasks))

    async def _end(self, task: GatewayTask, began_s: float) -> None:
        # Of the stop time-out the gateway keeps the last part for its stores, and these are no faster than they are.
        kill_s = began_s + self._options.stop_timeout_s - BEFORE_KILL_S + BEFORE_KILL_S * self._clock.speed
        if self._options.order != "spot":
            delayed_s = DEREGISTERED_AFTER_S + self._options.delay_s if self._options.order == "stop-task" else 0.0
            cut_s = began_s + delayed_s + CUT_S
            if await self._ended(task, min(cut_s, kill_s)):
                return
            if cut_s < kill_s:
                await self._rollout.cut(task)
        if not await self._ended(task, kill_s):
            self._mark(f"SIGKILL of {task.name}")
            await task.gateway.kill(expected=False)

    async def _ended(self, task: GatewayTask, moment_s: float) -> bool:
        """Wait for the end of a process until a moment; whether it came."""
        try:
            async with asyncio.timeout(max(0.0, moment_s - self._clock.now_s()) / self._clock.speed):
                await task.gateway.ended.wait()
        except TimeoutError:
            return False
        return True

    # What goes wrong

    async def _before(self) -> None:
        faults, endpoints = self._options.faults, self._rollout.endpoints
        if faults.credentials == "before":
            self._mark("credentials expire")
            endpoints.fail_with |= {"elbv2": "ExpiredToken", "ecs": "ExpiredToken"}
        if faults.endpoint == "before":
            self._mark("the endpoint is out of reach")
            await endpoints.close()
        if "before" in (faults.credentials, faults.endpoint):
            # Some polls, so that the gateways have noticed.
            await self._clock.sleep(LOST_S)

    def _faults(self) -> list[Coroutine[Any, Any, None]]:
        faults = self._options.faults
        found = []
        if "during" in (faults.credentials, faults.endpoint):
            found.append(self._lose())
        if faults.reverse_at_s:
            found.append(self._reverse(faults.reverse_at_s))
        if faults.stall_s:
            found.append(self._stall(faults.stall_at_s, faults.stall_s))
        return found

    async def _lose(self) -> None:
        await self._clock.sleep(LOST_S)
        if self._options.faults.credentials == "during":
            self._mark("credentials expire")
            self._rollout.endpoints.fail_with |= {"elbv2": "ExpiredToken", "ecs": "ExpiredToken"}
        else:
            self._mark("the endpoint is out of reach")
            await self._rollout.endpoints.close()

    async def _reverse(self, at_s: float) -> None:
        await self._clock.sleep(at_s)
        self._mark("the old tasks are registered again")
        for task in self._tasks:
            await self._rollout.balancer.register(task.address, task.gateway.url)
        for task in self._tasks:
            await self._rollout.balancer.becomes(task.address, TargetState.HEALTHY)

    async def _stall(self, at_s: float, for_s: float) -> None:
        await self._clock.sleep(at_s)
        self._mark(f"the old gateways stand still for {for_s:g} s")
        try:
            for task in self._tasks:
                task.gateway.signal(signal.SIGSTOP)
            await self._clock.sleep(for_s)
        finally:
            for task in self._tasks:
                task.gateway.signal(signal.SIGCONT)
