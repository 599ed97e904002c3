"""The ECS of a stand-in cloud: replaces real gateways behind a load balancer, in waves, as a rolling deploy does.

A wave: new tasks start, are registered, pass their health checks and get traffic; then the old ones are told to go.
What that means is `order`; see leaving.py. Not like AWS: a wave begins when the one before it is over, and new tasks
start as fast as the machine can.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

from gateway.adapters import receipt_files
from gateway.drain import window
from gateway.drain.health import TargetState
from gateway.errors import HeiwaError
from gateway.identity.token import mint
from gateway.settings.model import Drain
from loadtest.cloud import ecs_records, fronts
from loadtest.cloud.balancer import POLL_PERIOD_S, Balancer, CrowdedElbv2
from loadtest.cloud.clock import SimulatedClock
from loadtest.cloud.ecs_records import Ecs
from loadtest.cloud.elbv2 import TargetAddress
from loadtest.cloud.endpoints import Endpoints
from loadtest.cloud.fronts import TellFleets
from loadtest.cloud.leaving import TaskRemoval
from loadtest.cloud.tasks import CHECK_PERIOD_S, GatewayTask
from loadtest.processes.gateways import GatewayProcess
from loadtest.results.records import GatewayDrain, Waved
from loadtest.scenario.deploy import DeploySection, part

SERVICE = "gateway"
STARTS_AT_ONCE = 4
# Simulated; a new task that is not healthy by then fails the deploy.
HEALTHY_WITHIN_S = 600.0
# Simulated; with a poll each five seconds, jittered.
SOME_POLLS_S = 20.0
NOTICED_WITHIN_REAL_S = 5.0
TOLD_AFTER_REAL_S = 2.5
# A plan is played close by close, of all of a wave by each of its tasks.
PLAN_WITHIN_REAL_S = 60.0
REGISTERING = "registering"
MARGIN_S = Drain().margin_s
# connections.close_timeout_s at full speed, and the least that a busy machine needs.
CLOSE_TIMEOUT_S = 5.0
LEAST_CLOSE_TIMEOUT_S = 0.25


class Witness(NamedTuple):
    """Who starts a rollout. `tell` gives the fleets a command, `happen` notes a step (`wave`, its text), `record` keeps
    a wave that is over, `started` learns of a gateway that runs."""

    tell: TellFleets
    happen: Callable[[str, str], None]
    record: Callable[[Waved], None]
    started: Callable[[GatewayProcess], None]


class Start(NamedTuple):
    """How gateways are started. `name(n)` is the n-th one's name and folder, `folder` the run's."""

    folder: Path
    name: Callable[[int], tuple[str, Path]]
    secret_file: Path
    secret: str
    account: str
    settings: Mapping[str, object]


class Rollout:
    """Use once: `begin`, `play`, `close`."""

    def __init__(self, options: DeploySection, start: Start, witness: Witness) -> None:
        self.options = options
        self.clock = SimulatedClock(options.speed)
        self.witness = witness
        self.old: list[GatewayTask] = []
        self.new: list[GatewayTask] = []
        self._start = start
        self._elb = CrowdedElbv2(self.clock.now_s, options.faults.throttled_by)
        self._ecs = Ecs()
        self.endpoints = Endpoints(self._elb, self._ecs)
        self._front = fronts.make(options, start.folder, witness.tell)
        self.balancer = Balancer(self._elb, options.delay_s, self._front.aim)
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)
        self._port = _free_port()
        self._count = 0
        self._states: dict[str, str] = {}
        self._polled: set[str] = set()
        self._given = 0

    @property
    def tasks(self) -> list[GatewayTask]:
        return [*self.old, *self.new]

    def urls(self) -> list[str]:
        """Where devices connect now."""
        return self._front.urls(self.balancer.urls())

    async def begin(self) -> None:
        """The endpoints answer, and the old tasks are healthy. Raises HeiwaError."""
        await self._front.open()
        self._session = aiohttp.ClientSession()
        await self.endpoints.start()
        self._ecs.services[SERVICE] = [ecs_records.ServiceLoadBalancer(self.balancer.group, port=self._port)]
        self.old = await self._launch([self._address() for _ in range(self.options.old)])
        await self._register(self.old)

    async def play(self) -> None:
        """All waves, and the calm before and after them. Raises HeiwaError; cancelled: everything stays as it is."""
        await self.clock.sleep(self.options.before_s)
        for number in range(self.options.waves):
            await self._wave(number)
        # Fleets tell how they are once a real second.
        await self.clock.sleep(max(self.options.after_s, TOLD_AFTER_REAL_S * self.clock.speed))

    async def close(self) -> None:
        """Nobody is asked or told anything any more; the gateways go on."""
        await asyncio.gather(*(task.close() for task in self.tasks))
        await self.endpoints.close()
        await self._front.close()
        if hasattr(self, "_session"):
            await self._session.close()

    async def died(self, gateway: GatewayProcess) -> None:
        """ECS sees a task that stopped by itself, and takes it out."""
        for task in self.tasks:
            if task.gateway is gateway:
                await task.close()
                await self.balancer.deregister(task.address)

    async def cut(self, task: GatewayTask) -> None:
        """The load balancer ends what is still connected to a task."""
        await self._front.cut(task.gateway.url)

    async def look(self, tasks: Iterable[GatewayTask]) -> None:
        """Ask gateways where they stand, and remember it."""
        asked = list(tasks)
        answers = await asyncio.gather(*(task.ask("/api/v1/drain", self._token()) for task in asked))
        for task, answer in zip(asked, answers, strict=True):
            if answer is not None:
                self._states[task.name] = str(answer.get("state", ""))
                if answer.get("signal_up"):
                    self._polled.add(task.name)

    async def _wave(self, number: int) -> None:
        options = self.options
        old = self.old[part(len(self.old), options.waves, number)]
        coming = range(options.replacing)[part(options.replacing, options.waves, number)]
        late = bool(options.faults.receivers_late_s)
        new: list[GatewayTask] = []
        if not options.reuse_addresses:
            self._mark(number, f"{len(coming)} new tasks start")
            new = await self._launch([self._address() for _ in coming])
            await self._register(new, check=not late)
        await self._until(old, self._has_noticed)
        planned, calls, began_s = await self._planned(old), self.endpoints.balancer_calls, self.clock.now_s()
        began_ms = time.time_ns() // 1_000_000
        leaving = TaskRemoval(self, old, lambda text: self._mark(number, text))
        going = asyncio.create_task(leaving.go(), name="leaving")
        try:
            if late:
                await self.clock.sleep(options.faults.receivers_late_s)
                await self._healthy(new)
            if options.reuse_addresses:
                new = await self._reuse(old, number)
            await going
        finally:
            going.cancel()
        await self.look(task for task in self.tasks if not task.gateway.ended.is_set())
        took_s = self.clock.now_s() - began_s
        self.witness.record(
            Waved(
                time_ms=time.time_ns() // 1_000_000,
                number=number + 1,
                began_ms=began_ms,
                speed=options.speed,
                window_s=planned.window_s,
                connections=planned.connections,
                plan_peak_per_s=planned.peak_per_s,
                calls_per_s=(self.endpoints.balancer_calls - calls) / took_s,
                drains=await asyncio.to_thread(self._drains, [*old, *new]),
            )
        )

    def _drains(self, tasks: Sequence[GatewayTask]) -> list[GatewayDrain]:
        """What these gateways did so far, from the receipts in their folders."""
        found = []
        for task in tasks:
            state = self._states.get(task.name, "")
            receipts = sorted(task.gateway.folder.glob(f"{receipt_files.PREFIX}*.json"))
            found += [_drained(task.name, state, receipt) for receipt in receipts] or [GatewayDrain(task.name, state)]
        return found

    async def _reuse(self, old: Sequence[GatewayTask], number: int) -> list[GatewayTask]:
        """Newborns at the addresses of tasks that are gone, while these are still listed as draining."""
        await asyncio.gather(*(task.gateway.ended.wait() for task in old))
        await asyncio.gather(*(task.close() for task in old))
        self._mark(number, f"{len(old)} new tasks start at the addresses of the old ones")
        new = await self._launch([task.address for task in old])
        await self._until(new, lambda task: task.name in self._polled)
        # Long enough for some more polls that find the address draining.
        await self.clock.sleep(SOME_POLLS_S)
        await self._register(new)
        await self._until(new, self._has_noticed)
        return new

    async def _launch(self, addresses: Iterable[TargetAddress]) -> list[GatewayTask]:
        """Start a task at each address, not registered yet. Raises GatewayError."""
        tasks = [self._task(address) for address in addresses]
        started = await asyncio.gather(*map(self._run, tasks), return_exceptions=True)
        for failed in started:
            if failed is not None:
                raise failed
        if self.old:
            self.new += tasks
        return tasks

    def _task(self, address: TargetAddress) -> GatewayTask:
        self._count += 1
        name, folder = self._start.name(self._count)
        return GatewayTask(GatewayProcess(name, folder), address, self.options.health, self._session)

    async def _run(self, task: GatewayTask) -> None:
        options = self.options
        record = ecs_records.EcsTask(
            task.name, SERVICE, task.address[0], container_port=task.address[1], stop_timeout_s=options.stop_timeout_s
        )
        self._ecs.add_task(record)
        settings = {
            "connections.close_timeout_s": max(LEAST_CLOSE_TIMEOUT_S, CLOSE_TIMEOUT_S / options.speed),
            **self._front.settings,
            **self._start.settings,
            "drain.enabled": options.drain,
            "drain.speed": options.speed,
            "drain.stop_timeout_s": options.stop_timeout_s,
        }
        environment = self.endpoints.environment(task.name, "container")
        async with self._turns:
            await task.start(self._start.secret_file, settings, environment)
        self.witness.started(task.gateway)

    async def _register(self, tasks: Sequence[GatewayTask], *, check: bool = True) -> None:
        """Into the target group; with `check` return when all are healthy. Raises HeiwaError."""
        for task in tasks:
            await self.balancer.register(task.address, task.gateway.url)
        if check:
            await self._healthy(tasks)

    async def _healthy(self, tasks: Sequence[GatewayTask]) -> None:
        """Check their health from now on; return when all are healthy. Raises HeiwaError when they are not in time."""
        for task in tasks:
            task.check(self.balancer, self.clock)
        try:
            async with asyncio.timeout(30 + HEALTHY_WITHIN_S / self.clock.speed):
                for task in tasks:
                    await self.balancer.becomes(task.address, TargetState.HEALTHY)
        except TimeoutError:
            raise HeiwaError("a new gateway did not pass its health check") from None

    def _has_noticed(self, task: GatewayTask) -> bool:
        """Whether it has seen itself healthy; one that never was does not believe that it drains."""
        return self._states.get(task.name) not in (None, REGISTERING)

    async def _until(self, tasks: Iterable[GatewayTask], so: Callable[[GatewayTask], bool]) -> None:
        """Ask these until that is so of each, a while at most: a process loads its SDK no faster in a faster world."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NOTICED_WITHIN_REAL_S):
                for task in tasks:
                    while not so(task):
                        await self.clock.sleep(CHECK_PERIOD_S)
                        await self.look([task])

    async def _planned(self, old: Sequence[GatewayTask]) -> Planned:
        """What the old gateways say of the drain that is about to come."""
        options = self.options
        path = f"/api/v1/drain/plan?tasks={len(old)}"
        if options.order != "rolling":
            # SIGTERM finds them registered: they have what the stop time-out leaves.
            path += f"&window_s={window.stop_window_s(0, options.stop_timeout_s, registered=True):g}"
        plans = await asyncio.gather(*(task.ask(path, self._token(), PLAN_WITHIN_REAL_S) for task in old))
        found = [plan for plan in plans if plan is not None]
        if not found:
            return Planned(self._usual_window_s(), None, None)
        window_s = sum(plan["window_s"] for plan in found) / len(found)
        if not options.drain:
            # They do not know the delay; this is what they would make of it.
            window_s = self._usual_window_s()
        # Each one plans for all of the wave, as if they held as much as itself.
        connections = round(sum(plan["connections"] / plan["tasks"] for plan in found))
        peak_per_s = sum(plan["peak_reconnects_per_s"] for plan in found) / len(found)
        return Planned(window_s, connections, peak_per_s)

    def _usual_window_s(self) -> float:
        """What a gateway with default settings makes of the delay."""
        return window.longest_s(self.options.delay_s, MARGIN_S, POLL_PERIOD_S)

    def _token(self) -> str:
        claims = {"sub": "loadtest", "account": self._start.account, "scope": "admin", "exp": time.time() + 3600}
        return mint(claims, self._start.secret.encode())

    def _address(self) -> TargetAddress:
        """Of each task its own, as with network mode awsvpc: all listen on the same port."""
        number = self._given
        self._given += 1
        return f"127.{_NET}.{number // 250}.{1 + number % 250}", self._port

    def _mark(self, number: int, text: str) -> None:
        text = f"wave {number + 1}: {text}" if self.options.waves > 1 else text
        self.witness.happen("wave", text)


class Planned(NamedTuple):
    """Of a wave: the simulated seconds its closes are spread over, its connections, the highest second."""

    window_s: float
    connections: int | None
    peak_per_s: float | None


def _drained(name: str, state: str, receipt: Path) -> GatewayDrain:
    fields = msgspec.json.decode(receipt.read_bytes(), type=dict[str, Any])
    known = {key: fields[key] for key in GatewayDrain.__struct_fields__ if key in fields}
    return msgspec.convert({**known, "name": name, "state": state}, GatewayDrain)


# A part of loopback for each process that deploys, so that two of them do not meet.
_NET = 64 + os.getpid() % 128


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((f"127.{_NET}.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
