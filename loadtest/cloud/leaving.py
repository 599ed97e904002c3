"""How ECS and the load balancer remove old tasks, step by step, and the faults meanwhile.

`rolling`: deregister, drain for the delay, SIGTERM. `stop-task` (StopTask): SIGTERM first, deregister a moment later.
`spot` (Fargate Spot): SIGTERM, and the task stays registered until it is gone. The load balancer cuts what is still
connected to a deregistered task eight seconds after both SIGTERM and the end of the delay; SIGKILL follows the stop
time-out. Times are simulated seconds, except the last ten before SIGKILL: a process needs them to end, at any speed.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from gateway.drain.health import TargetState
from gateway.drain.window import BEFORE_KILL_S
from loadtest.cloud.balancer import Balancer
from loadtest.cloud.clock import SimulatedClock
from loadtest.cloud.drain_watch import DrainWatch
from loadtest.cloud.endpoints import Endpoints
from loadtest.cloud.fronts import Front
from loadtest.cloud.tasks import GatewayTask
from loadtest.scenario.deploy import DeploySection

# Seen on ECS: how long after its SIGTERM a load balancer cuts the connections of a deregistered task.
CUT_S = 8.0
# ECS tells the load balancer of a StopTask this much later.
DEREGISTERED_AFTER_S = 2.0
# Before the end of the delay: a drain should be over then.
LOOK_S = 5.0
# The faults "during": this long after the tasks were told to go.
LOST_S = 20.0


class CloudParts(NamedTuple):
    """What the waves of a deploy act on."""

    options: DeploySection
    clock: SimulatedClock
    balancer: Balancer
    endpoints: Endpoints
    front: Front
    watch: DrainWatch


class TaskRemoval:
    """The old tasks of one wave; use once. `mark` is told each step."""

    def __init__(self, parts: CloudParts, tasks: Sequence[GatewayTask], mark: Callable[[str], None]) -> None:
        self._parts = parts
        self._options = parts.options
        self._clock = parts.clock
        self._tasks = tasks
        self._mark = mark
        self._deregistered_s = 0.0

    async def go(self) -> None:
        """Return when all tasks are gone or, when they were called back, when the delay has passed."""
        faults = [asyncio.create_task(fault) for fault in self._faults()]
        try:
            await self._before()
            if self._options.order == "rolling":
                await self._deregister()
                end_s = self._deregistered_s + self._options.delay_s
                await self._clock.until(end_s - LOOK_S)
                # A gateway that stands still does not answer, and SIGTERM does not wait for it.
                faults.append(asyncio.create_task(self._parts.watch.look(self._tasks)))
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
            # Without its fault it would be no rehearsal.
            if isinstance(failed, Exception):
                raise failed

    async def _deregister(self) -> None:
        self._deregistered_s = self._clock.now_s()
        self._mark(f"{len(self._tasks)} old tasks deregistered")
        await self._parts.balancer.deregister(*(task.address for task in self._tasks))

    async def _deregister_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._deregister()

    async def _terminate(self, meanwhile: Coroutine[Any, Any, None] | None = None) -> None:
        """SIGTERM, the cut, SIGKILL; return when all tasks have ended."""
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
        # The gateway keeps the last part of the stop time-out for its stores, which are no faster at any speed.
        kill_s = began_s + self._options.stop_timeout_s - BEFORE_KILL_S + BEFORE_KILL_S * self._clock.speed
        if self._options.order != "spot":
            delayed_s = DEREGISTERED_AFTER_S + self._options.delay_s if self._options.order == "stop-task" else 0.0
            cut_s = began_s + delayed_s + CUT_S
            if await self._ended(task, min(cut_s, kill_s)):
                return
            if cut_s < kill_s:
                await self._parts.front.cut(task.gateway.url)
        if not await self._ended(task, kill_s):
            self._mark(f"SIGKILL of {task.name}")
            await task.gateway.kill(expected=False)

    async def _ended(self, task: GatewayTask, moment_s: float) -> bool:
        """Wait until a process has ended, or until a moment; whether it has ended."""
        try:
            async with asyncio.timeout(max(0.0, moment_s - self._clock.now_s()) / self._clock.speed):
                await task.gateway.ended.wait()
        except TimeoutError:
            return False
        return True

    # Faults

    async def _before(self) -> None:
        faults, endpoints = self._options.faults, self._parts.endpoints
        if faults.credentials == "before":
            self._mark("credentials expire")
            endpoints.fail_with |= {"elbv2": "ExpiredToken", "ecs": "ExpiredToken"}
        if faults.endpoint == "before":
            self._mark("the endpoint is out of reach")
            await endpoints.close()
        if "before" in (faults.credentials, faults.endpoint):
            # Long enough for some polls, so that the gateways have noticed.
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
            self._parts.endpoints.fail_with |= {"elbv2": "ExpiredToken", "ecs": "ExpiredToken"}
        else:
            self._mark("the endpoint is out of reach")
            await self._parts.endpoints.close()

    async def _reverse(self, at_s: float) -> None:
        await self._clock.sleep(at_s)
        self._mark("the old tasks are registered again")
        for task in self._tasks:
            await self._parts.balancer.register(task.address, task.gateway.url)
        for task in self._tasks:
            await self._parts.balancer.becomes(task.address, TargetState.HEALTHY)

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
