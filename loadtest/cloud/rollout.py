"""The ECS of a stand-in cloud: replaces real gateways behind a load balancer, in waves, as a rolling deploy does.

In a wave new tasks start, are registered, pass their health checks and get traffic; then the old ones are told to go.
How they go is `order`; see leaving.py. Not like AWS: a wave begins when the one before it is over, and new tasks start
as fast as the machine can.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import aiohttp

from gateway.drain.health import TargetState
from gateway.errors import HeiwaError
from loadtest.cloud import fronts
from loadtest.cloud.balancer import Balancer, CrowdedElbv2
from loadtest.cloud.clock import SimulatedClock
from loadtest.cloud.deployments import SUCCESSFUL, RevisionRecord, ServiceDeployment
from loadtest.cloud.drain_watch import DrainWatch, PlannedWave
from loadtest.cloud.ecs_records import Ecs, ServiceLoadBalancer
from loadtest.cloud.endpoints import Endpoints
from loadtest.cloud.fronts import TellFleets
from loadtest.cloud.launcher import SERVICE, Start, TaskLauncher
from loadtest.cloud.leaving import CloudParts, TaskRemoval
from loadtest.cloud.tasks import GatewayTask
from loadtest.processes.gateways import GatewayProcess
from loadtest.results.records import Waved
from loadtest.scenario.deploy import DeploySection, part

# Simulated; a new task that is not healthy by then fails the deploy.
HEALTHY_WITHIN_S = 600.0
# Simulated; a gateway polls every five seconds, with jitter.
SOME_POLLS_S = 20.0


class Witness(NamedTuple):
    """What a rollout tells its caller. `tell` sends the fleets a command, `happen` notes a step (`wave`, its text),
    `record` keeps a wave that is over, `started` is called with each gateway that runs."""

    tell: TellFleets
    happen: Callable[[str, str], None]
    record: Callable[[Waved], None]
    started: Callable[[GatewayProcess], None]


class Rollout:
    """Use once: `begin`, `play`, `close`."""

    def __init__(self, options: DeploySection, start: Start, witness: Witness) -> None:
        self.options = options
        self.clock = SimulatedClock(options.speed)
        self.old: list[GatewayTask] = []
        self.new: list[GatewayTask] = []
        self._witness = witness
        self._elb = CrowdedElbv2(self.clock.now_s, options.faults.throttled_by)
        self._ecs = Ecs()
        self.endpoints = Endpoints(self._elb, self._ecs)
        self._front = fronts.make(options, start.folder, witness.tell)
        self.balancer = Balancer(self._elb, options.delay_s, self._front.aim)
        self._launcher = TaskLauncher(options, start, self._ecs, self.endpoints, self._front.settings, witness.started)
        self._watch = DrainWatch(options, start, self.clock)
        self._parts = CloudParts(options, self.clock, self.balancer, self.endpoints, self._front, self._watch)

    @property
    def tasks(self) -> list[GatewayTask]:
        """All tasks so far."""
        return [*self.old, *self.new]

    def urls(self) -> list[str]:
        """Where devices connect now."""
        return self._front.urls(self.balancer.urls())

    async def begin(self) -> None:
        """Start the endpoints and the old tasks; return when all are healthy. Raises HeiwaError."""
        await self._front.open()
        self._session = aiohttp.ClientSession()
        await self.endpoints.start()
        self._ecs.services[SERVICE] = [self._service()]
        self.old = await self._launcher.launch(self._launcher.addresses(self.options.old), self._session)
        await self._register(self.old)

    def _service(self) -> ServiceLoadBalancer:
        return ServiceLoadBalancer(self.balancer.group, port=self._launcher.port)

    async def play(self) -> None:
        """All waves, and the calm before and after them. Raises HeiwaError; when cancelled, all stays as it is."""
        await self.clock.sleep(self.options.before_s)
        for number in range(self.options.waves):
            await self._wave(number)
        await self.clock.sleep(self.options.after_s)

    async def close(self) -> None:
        """Close the endpoints and the health checks; the gateways go on."""
        await asyncio.gather(*(task.close() for task in self.tasks))
        await self.endpoints.close()
        await self._front.close()
        if hasattr(self, "_session"):
            await self._session.close()

    async def died(self, gateway: GatewayProcess) -> None:
        """ECS sees a task that stopped by itself, and deregisters it."""
        for task in self.tasks:
            if task.gateway is gateway:
                await task.close()
                await self._forget(task)

    async def _forget(self, task: GatewayTask) -> None:
        await self.balancer.deregister(task.address)

    async def _wave(self, number: int) -> None:
        options, watch = self.options, self._watch
        old = self.old[part(len(self.old), options.waves, number)]
        new = [] if options.reuse_addresses else await self._start_new(number)
        await watch.until(old, watch.has_noticed)
        planned, calls, began_s = await watch.planned(old), self.endpoints.balancer_calls, self.clock.now_s()
        began_ms = time.time_ns() // 1_000_000
        removal = TaskRemoval(self._parts, old, lambda text: self._mark(number, text))
        going = asyncio.create_task(removal.go(), name="leaving")
        try:
            if options.faults.receivers_late_s:
                await self.clock.sleep(options.faults.receivers_late_s)
                await self._healthy(new)
            if options.reuse_addresses:
                new = await self._reuse(old, number)
            await going
        finally:
            going.cancel()
        await watch.look([task for task in self.tasks if not task.gateway.ended.is_set()])
        calls_per_s = (self.endpoints.balancer_calls - calls) / (self.clock.now_s() - began_s)
        await self._record(number, began_ms, planned, calls_per_s, [*old, *new])

    async def _start_new(self, number: int) -> list[GatewayTask]:
        """Start and register the new tasks of a wave; they are healthy now, unless they are to be late."""
        waves, replacing = self.options.waves, self.options.replacing
        count = len(range(replacing)[part(replacing, waves, number)])
        self._mark(number, f"{count} new tasks start")
        made = self._announce() if self.options.deferred else None
        new = await self._launch_new(self._launcher.addresses(count))
        await self._register(new, check=not self.options.faults.receivers_late_s)
        if made is not None:
            made.status = SUCCESSFUL
            self._mark(number, "the deployment is successful; its old tasks are still there")
        return new

    def _announce(self) -> ServiceDeployment:
        """A rolling deployment that does not wait for the clean-up of its old tasks."""
        early = {"enable": True, "healthyPercent": 100, "sourceServiceRevisionCleanup": "DEFERRED"}
        old, new = (
            RevisionRecord(number, SERVICE, definition=f"gateway:{number}", group=self.balancer.group)
            for number in (1, 2)
        )
        asked = {"strategy": "ROLLING", "earlySuccessCriteria": early}
        self._launcher.revision = 2
        return self._ecs.deployments.add(ServiceDeployment(old, new, asked, percent=None))

    async def _reuse(self, old: Sequence[GatewayTask], number: int) -> list[GatewayTask]:
        """Start new tasks at the addresses of tasks that are gone, while these are still listed as draining."""
        await asyncio.gather(*(task.gateway.ended.wait() for task in old))
        await asyncio.gather(*(task.close() for task in old))
        self._mark(number, f"{len(old)} new tasks start at the addresses of the old ones")
        new = await self._launch_new([task.address for task in old])
        await self._watch.until(new, self._watch.has_polled)
        # Long enough for some more polls that find the address draining.
        await self.clock.sleep(SOME_POLLS_S)
        await self._register(new)
        await self._watch.until(new, self._watch.has_noticed)
        return new

    async def _launch_new(self, addresses: Sequence[tuple[str, int]]) -> list[GatewayTask]:
        new = await self._launcher.launch(addresses, self._session)
        self.new += new
        return new

    async def _register(self, tasks: Sequence[GatewayTask], *, check: bool = True) -> None:
        """Register tasks in the target group; with `check`, return when all are healthy. Raises HeiwaError."""
        for task in tasks:
            await self.balancer.register(task.address, task.gateway.url)
        if check:
            await self._healthy(tasks)

    async def _healthy(self, tasks: Sequence[GatewayTask], within: Balancer | None = None) -> None:
        """Check their health from now on; return when all are healthy. Raises HeiwaError when that takes too long."""
        balancer = within or self.balancer
        for task in tasks:
            task.check(balancer, self.clock)
        try:
            async with asyncio.timeout(30 + HEALTHY_WITHIN_S / self.clock.speed):
                for task in tasks:
                    await balancer.becomes(task.address, TargetState.HEALTHY)
        except TimeoutError:
            raise HeiwaError("a new gateway did not pass its health check") from None

    async def _record(
        self, number: int, began_ms: int, planned: PlannedWave, calls_per_s: float, tasks: Sequence[GatewayTask]
    ) -> None:
        self._witness.record(
            Waved(
                time_ms=time.time_ns() // 1_000_000,
                number=number + 1,
                began_ms=began_ms,
                speed=self.options.speed,
                window_s=planned.window_s,
                connections=planned.connections,
                plan_peak_per_s=planned.peak_per_s,
                calls_per_s=calls_per_s,
                drains=await self._watch.drains(tasks),
            )
        )

    def _mark(self, number: int, text: str) -> None:
        text = f"wave {number + 1}: {text}" if self.options.waves > 1 else text
        self._witness.happen("wave", text)
