"""The ECS of a stand-in cloud in a canary, linear or blue/green deploy: all new tasks at once, then weights, stage by
stage, then the clean-up of the old tasks as in a rolling deploy. Each step is recorded as a wave.

Not like AWS: a stage without a hook takes `STAGE_S`, and a rollback comes when the scenario says so, or the guard does.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from gateway.drain.deployment import TINY, Step, Strategy, steps
from loadtest.cloud.deployments import (
    CONTINUE,
    ROLLBACK_IN_PROGRESS,
    ROLLBACK_SUCCESSFUL,
    SUCCESSFUL,
    RevisionRecord,
    ServiceDeployment,
    configuration,
)
from loadtest.cloud.ecs_records import ServiceLoadBalancer
from loadtest.cloud.guarding import GuardProcess
from loadtest.cloud.launcher import SERVICE, Start
from loadtest.cloud.leaving import CloudParts, TaskRemoval
from loadtest.cloud.pair import Pair
from loadtest.cloud.rollout import Rollout, Witness
from loadtest.cloud.tasks import FOREIGN, GatewayTask
from loadtest.results.records import StepKind, StepRecord, Waved
from loadtest.scenario.deploy import DeploySection

STRATEGIES = {"canary": Strategy.CANARY, "linear": Strategy.LINEAR, "blue-green": Strategy.BLUE_GREEN}
# Simulated: a stage in which nothing waits.
STAGE_S = 5.0
# After a rollback, before the new tasks go: who leaves then was moved by the rollback itself.
LOOK_S = 60.0


class RolledBack(Exception):
    """The deployment goes back."""


class Beginning(NamedTuple):
    """Of a wave: by the wall clock and by the cloud's, and how often the two APIs had been called by then."""

    time_ms: int
    at_s: float
    balancer_calls: int
    deployment_calls: int


class WeightedRollout(Rollout):
    """Use once: `begin`, `play`, `close`."""

    def __init__(self, options: DeploySection, start: Start, witness: Witness) -> None:
        super().__init__(options, start, witness)
        self._pair = Pair(self._elb, options.delay_s, self._front.weigh)
        self.balancer = self._pair.blue
        self._parts = self._parts._replace(balancer=self.balancer)
        self._folder = start.folder
        self._strategy = STRATEGIES[options.strategy]
        self._steps = steps(self._strategy, options.bake_s, options.percent, options.step_bake_s)
        self._told = asyncio.Queue[str]()
        self._back_s = float("inf")
        self._number = 0

    def urls(self) -> list[str]:
        """Where devices connect now."""
        return self._front.urls(self._pair.urls())

    async def _forget(self, task: GatewayTask) -> None:
        await (self._pair.green if task in self.new else self._pair.blue).deregister(task.address)

    def _service(self) -> ServiceLoadBalancer:
        return ServiceLoadBalancer(self._pair.blue.group, self._pair.green.group, port=self._launcher.port)

    async def play(self) -> None:
        """The deployment from PRE_SCALE_UP to CLEAN_UP, and the calm before and after it."""
        await self.clock.sleep(self.options.before_s)
        made = self._make()
        guard = await self._guard()
        try:
            await self._scale_up(made)
            await self._shift(made)
            await self._clean_up(made)
        except RolledBack:
            await self._roll_back(made)
        finally:
            if guard is not None:
                await guard.close()
        await self.clock.sleep(self.options.after_s)

    async def _guard(self) -> GuardProcess | None:
        """What continues the hooks of the scenario; None: it has none."""
        if not self.options.pause_at:
            return None
        guard = GuardProcess(
            self._folder,
            SERVICE,
            self.options.guard_devices,
            self.endpoints.metrics,
            lambda: self.tasks,
            lambda text: self._mark(0, f"guard: {text}"),
        )
        own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        await guard.start({**own, **self.endpoints.environment()})
        return guard

    def _make(self) -> ServiceDeployment:
        options = self.options
        asked = configuration(self._strategy, options.bake_s, options.percent, options.step_bake_s)
        old = RevisionRecord(1, SERVICE, group=self._pair.blue.group, tasks=options.old)
        new = RevisionRecord(2, SERVICE, definition="gateway:2", group=self._pair.green.group, tasks=options.replacing)
        made = ServiceDeployment(old, new, asked, told=self._told.put_nowait)
        return self._ecs.deployments.add(made)

    async def _scale_up(self, made: ServiceDeployment) -> None:
        made.stage = "SCALE_UP"
        self._mark(0, f"{self.options.replacing} new tasks start")
        self._launcher.revision = 2
        new = await self._launch_new(self._launcher.addresses(self.options.replacing))
        for task in new:
            await self._pair.green.register(task.address, task.gateway.url)
        await self._healthy(new, self._pair.green)
        await self._watch.until(self.old, self._watch.has_noticed)
        for stage in ("POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", "POST_TEST_TRAFFIC_SHIFT"):
            await self._pass(made, stage)

    async def _shift(self, made: ServiceDeployment) -> None:
        self._back_s = self.clock.now_s() + (self.options.rollback_at_s or float("inf"))
        for step in self._steps:
            await self._pass(made, "PRE_PRODUCTION_TRAFFIC_SHIFT")
            began = self._begins()
            made.stage, made.percent = "PRODUCTION_TRAFFIC_SHIFT", round(100 * step.weight, 1)
            await self._pair.shift(step.weight)
            self._mark(0, f"{step.weight:.0%} of new connections to the new tasks")
            if step.weight > 1 - TINY:
                await self._pass(made, "POST_PRODUCTION_TRAFFIC_SHIFT")
                made.stage = "BAKE_TIME"
            await self._bake(step, began)

    async def _bake(self, step: Step, began: Beginning) -> None:
        """A step's own time. It is recorded from when its weights moved: connections follow from then on."""
        await self.clock.until(min(self.clock.now_s() + step.lasts_s, self._back_s))
        await self._record_step(began, step.weight, "step")
        if self.clock.now_s() >= self._back_s:
            raise RolledBack

    async def _pass(self, made: ServiceDeployment, stage: str) -> None:
        """Go through a stage; where it has a pause hook, wait until somebody continues it. Raises RolledBack."""
        made.stage = stage
        if stage not in self.options.pause_at:
            await self.clock.sleep(STAGE_S)
            return
        made.wait()
        self._mark(0, f"paused at {stage}")
        action = await self._told.get()
        self._mark(0, action.lower())
        if action != CONTINUE:
            raise RolledBack

    async def _roll_back(self, made: ServiceDeployment) -> None:
        """The weights go back at once; then the new tasks are removed."""
        made.status, made.percent = ROLLBACK_IN_PROGRESS, 0.0
        await self._pair.shift(0.0)
        self._mark(0, "rolled back: all new connections to the old tasks")
        began = self._begins()
        await self._watch.until(self.old, self._watch.has_settled)
        await self._record_step(began, 0.0, "noticing")
        began = self._begins()
        await self.clock.sleep(LOOK_S)
        await self._record_step(began, 0.0, "rollback")
        made.stage = "CLEAN_UP"
        await self._remove(self.new, self._parts._replace(balancer=self._pair.green), "failed")
        made.status = ROLLBACK_SUCCESSFUL

    async def _clean_up(self, made: ServiceDeployment) -> None:
        made.stage = "CLEAN_UP"
        await self._remove(self.old, self._parts, "clean_up")
        made.status = SUCCESSFUL

    async def _remove(self, tasks: Sequence[GatewayTask], parts: CloudParts, what: StepKind) -> None:
        await self._watch.look(self.tasks)
        held = self._watch.held(tasks), self._watch.held([task for task in self.tasks if task not in tasks])
        planned, began = await self._watch.planned(tasks), self._begins()
        await TaskRemoval(parts, tasks, lambda text: self._mark(0, text)).go()
        await self._watch.look([task for task in self.tasks if not task.gateway.ended.is_set()])
        spent_s, calls = self.clock.now_s() - began.at_s, self._begins().balancer_calls - began.balancer_calls
        self._number += 1
        old, new = held if what == "clean_up" else held[::-1]
        self._witness.record(
            Waved(
                time_ms=time.time_ns() // 1_000_000,
                number=self._number,
                began_ms=began.time_ms,
                speed=self.options.speed,
                window_s=planned.window_s,
                connections=planned.connections,
                calls_per_s=calls / spent_s,
                drains=await self._watch.drains(self.tasks),
                step=StepRecord(what, self._pair.part, on_old=old, on_new=new),
            )
        )

    def _begins(self) -> Beginning:
        time_ms, calls = time.time_ns() // 1_000_000, self._ecs.deployments.calls
        return Beginning(time_ms, self.clock.now_s(), self.endpoints.balancer_calls, calls)

    async def _record_step(self, began: Beginning, weight: float, what: StepKind) -> None:
        ends = self._begins()
        lasts_s, long_s = ends.at_s - began.at_s, max(ends.at_s - began.at_s, 1.0)
        await self._watch.look(self.tasks)
        self._number += 1
        self._witness.record(
            Waved(
                time_ms=ends.time_ms,
                number=self._number,
                began_ms=began.time_ms,
                speed=self.options.speed,
                window_s=lasts_s,
                calls_per_s=(ends.balancer_calls - began.balancer_calls) / long_s,
                step=StepRecord(
                    what,
                    weight,
                    on_old=self._watch.held(self.old),
                    on_new=self._watch.held(self.new),
                    deployment_calls_per_s=(ends.deployment_calls - began.deployment_calls) / long_s,
                    gateways=len(self.old) if self.options.follow else 0,
                ),
            )
        )
