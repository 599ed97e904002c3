"""Two hundred tasks poll one account, hours in virtual time: how much of its throttle they use, and what they notice.

The real watch and drainer of each task, against the stand-in's target group and its bucket of 40 calls, refilled at 10
a second. No sockets: what is counted are calls, and who begins to drain.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import pytest

from gateway.connections.admission import admission
from gateway.connections.door import Door
from gateway.connections.hub import Hub
from gateway.drain.drainer import Drainer
from gateway.drain.health import GroupAttributes, GroupHealth, Membership
from gateway.drain.leaving import Origin
from gateway.drain.receipt import Receipt
from gateway.drain.states import State
from gateway.drain.target_health import TargetHealthWatch
from gateway.errors import CallError, CallErrorKind
from loadtest.cloud.elbv2 import ElbError, Elbv2
from tests.support.bench import FakeAuthenticator, make_settings
from tests.support.virtual_time import LoopClock, run

T = TypeVar("T")
TASKS = 200
PORT = 8080
BUDGET_PER_S = 2.5
MARGIN_S = 15.0
# All start within a minute, as in a deploy; then the polls find their pace.
STARTED_S = 60.0
STEADY_S = 600.0
HOUR_S = 3600.0
# Each of the other pollers asks so often.
OTHERS_PERIOD_S = 5.0


class Fleet:
    """`calls` are the moments at which a task of ours asked; `missed` counts throttled calls of others."""

    def __init__(self, delay_s: float, seed: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.chance = random.Random(seed)
        self.elb = Elbv2(self.loop.time)
        self.group = self.elb.add_group("web", delay_s)
        self._foreign = self.elb.add_group("foreign")
        self.calls: list[float] = []
        self.missed = 0
        self.tasks = [Task(self, number) for number in range(TASKS)]
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Return when the polls are at their pace."""
        for task in self.tasks:
            self.register(task.address)
            self._running.append(asyncio.create_task(self._later(task, self.chance.uniform(0, STARTED_S))))
        await asyncio.sleep(STEADY_S)

    def register(self, address: str) -> None:
        """Healthy from the beginning."""
        self.elb.register(self.group, address, PORT)
        self.elb.set_health(self.group, address, PORT, healthy=True)

    def crowd(self, others: int) -> list[asyncio.Task[None]]:
        """So many pollers that are not ours."""
        crowd = [asyncio.create_task(self._other()) for _ in range(others)]
        self._running += crowd
        return crowd

    def per_s(self, begin_s: float, end_s: float) -> float:
        """Our calls a second, between two moments."""
        return sum(begin_s <= moment < end_s for moment in self.calls) / (end_s - begin_s)

    async def stop(self) -> None:
        for running in self._running:
            running.cancel()
        for ended in await asyncio.gather(*self._running, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError)

    def stop_task(self, task: Task) -> None:
        """Its process has ended."""
        self._running[self.tasks.index(task)].cancel()

    async def _later(self, task: Task, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await task.watch.run()

    async def _other(self) -> None:
        await asyncio.sleep(self.chance.uniform(0, OTHERS_PERIOD_S))
        while True:
            try:
                self.elb.describe_groups([self._foreign])
            except ElbError:
                self.missed += 1
            await asyncio.sleep(OTHERS_PERIOD_S * self.chance.uniform(0.8, 1.2))


class Task:
    """One gateway's watch and drainer, with no connections; the TargetHealth port and the Receipts port of both."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.address = f"10.0.{number // 250}.{number % 250}"
        self._fleet = fleet
        settings, clock, chance = make_settings(), LoopClock(), random.Random(fleet.chance.random())
        hub = Hub(settings, clock, admission(settings.connections, 1, 1, clock.monotonic_s()), chance)
        door = Door(hub, settings, FakeAuthenticator(), {})  # type: ignore[arg-type]
        self.drainer = Drainer(settings.drain, door, clock, chance, self)
        self.watch = TargetHealthWatch(self, self.drainer, hub, chance, 1.0)

    @property
    def state(self) -> State:
        return self.drainer.state

    async def membership(self) -> Membership:
        return Membership(self.address, {self._fleet.group: PORT})

    async def attributes(self, group: str) -> GroupAttributes:
        return GroupAttributes(self._call(self._fleet.elb.describe_attributes).delay_s)

    async def health(self, group: str, target: str, port: int, also: Sequence[str] = ()) -> GroupHealth:
        listed = self._call(self._fleet.elb.describe_target_health)
        targets = {f"{one.id}:{one.port}": one.state for one in listed}
        return GroupHealth(targets.get(f"{target}:{port}"), targets)

    async def close(self) -> None:
        """There is nothing to close."""

    def keep(self, receipt: Receipt) -> None:
        """Nobody reads it."""

    def _call(self, ask: Callable[[str], T]) -> T:
        self._fleet.calls.append(self._fleet.loop.time())
        try:
            return ask(self._fleet.group)
        except ElbError as error:
            raise CallError(CallErrorKind.THROTTLED, str(error)) from error


async def deploy(fleet: Fleet, waves: int, delay_s: float) -> dict[Task, float]:
    """Replace all tasks, one by one in waves; when each was deregistered. Asserts that nobody else drains."""
    gone: dict[Task, float] = {}
    for wave in _waves(fleet.tasks, waves):
        for task in wave:
            fleet.register(task.address.replace("10.0", "10.1"))
            fleet.elb.deregister(fleet.group, task.address, PORT)
            gone[task] = fleet.loop.time()
            await asyncio.sleep(1)
        await asyncio.sleep(delay_s)
        assert all(task.state is State.SERVING for task in fleet.tasks if task not in gone)
        for task in wave:
            fleet.stop_task(task)
    return gone


def _waves(tasks: list[Task], waves: int) -> Iterator[list[Task]]:
    size = -(-len(tasks) // waves)
    return (tasks[begin : begin + size] for begin in range(0, len(tasks), size))


def judge(gone: dict[Task, float], delay_s: float) -> tuple[float, float]:
    """That each began to drain early enough to be done before the delay is over less the margin.

    Returns the longest time until one noticed, and the shortest it then had left.
    """
    noticed, left = [], []
    for task, gone_s in gone.items():
        leaving = task.drainer.leaving
        assert leaving is not None, f"{task.address} noticed nothing"
        assert leaving.origin is Origin.TARGET_HEALTH
        assert task.state is State.DRAIN_PENDING
        assert leaving.pacer.deadline_s <= gone_s + delay_s - MARGIN_S
        noticed.append(leaving.began_s - gone_s)
        left.append(leaving.pacer.deadline_s - leaving.began_s)
    return max(noticed), min(left)


@pytest.mark.parametrize("seed", [1, 2])
def test_an_hour_within_the_budget_and_then_a_deploy(seed: int) -> None:
    async def scenario() -> None:
        delay_s = 300.0
        fleet = Fleet(delay_s, seed)
        await fleet.start()
        await asyncio.sleep(HOUR_S)
        assert fleet.per_s(STEADY_S, STEADY_S + HOUR_S) <= 2.1
        for minute in range(10, 70):
            assert fleet.per_s(60 * minute, 60 * minute + 60) <= BUDGET_PER_S
        assert fleet.elb.throttled == 0
        assert all(task.state is State.SERVING for task in fleet.tasks)
        gone = await deploy(fleet, 10, delay_s)
        noticed_s, left_s = judge(gone, delay_s)
        # The period is 100 s and somewhat more with the newborn; all of the rest of the delay is the window.
        assert noticed_s <= 1.2 * 110
        assert left_s >= delay_s - MARGIN_S - 2 * 1.2 * 110
        assert fleet.elb.throttled == 0
        await fleet.stop()

    run(scenario())


def test_others_take_all_that_is_refilled() -> None:
    """Fifty at 0.2 a second are all of the ten a second: one call in six is throttled, sometimes several in a row."""

    async def scenario() -> None:
        delay_s = 600.0
        fleet = Fleet(delay_s, 4)
        await fleet.start()
        fleet.crowd(50)
        await asyncio.sleep(HOUR_S)
        assert fleet.elb.throttled - fleet.missed > 0.1 * HOUR_S
        assert fleet.per_s(STEADY_S, STEADY_S + HOUR_S) <= BUDGET_PER_S
        assert all(task.state is State.SERVING for task in fleet.tasks)
        judge(await deploy(fleet, 10, delay_s), delay_s)
        await fleet.stop()

    run(scenario())


def test_a_storm_of_others_drains_nobody() -> None:
    """Two hundred at 0.2 a second are four times what is refilled: most of our calls are throttled."""

    async def scenario() -> None:
        fleet = Fleet(300.0, 3)
        await fleet.start()
        crowd = fleet.crowd(200)
        await asyncio.sleep(HOUR_S / 2)
        assert fleet.elb.throttled > 0.7 * fleet.elb.calls
        assert fleet.per_s(STEADY_S, STEADY_S + HOUR_S / 2) <= BUDGET_PER_S
        assert all(task.state is State.SERVING for task in fleet.tasks)
        assert all(task.watch.signal_up for task in fleet.tasks)
        assert all(task.drainer.standing.delay_s == 300 for task in fleet.tasks)
        for other in crowd:
            other.cancel()
        calm_s = fleet.loop.time()
        # Two periods are the longest pause after a throttled call.
        await asyncio.sleep(2 * 100 + 1)
        assert all((task.watch.polled_s or 0) >= calm_s for task in fleet.tasks)
        await fleet.stop()

    run(scenario())


def test_all_start_at_once_into_an_empty_bucket() -> None:
    """Four hundred calls in one moment: most are throttled, all know where they stand minutes later."""

    async def scenario() -> None:
        fleet = Fleet(120.0, 5)
        for task in fleet.tasks:
            fleet.register(task.address)
        running = [asyncio.create_task(task.watch.run()) for task in fleet.tasks]
        await asyncio.sleep(STEADY_S)
        assert fleet.elb.throttled > TASKS
        assert all(task.state is State.SERVING for task in fleet.tasks)
        assert all(task.drainer.standing.delay_s == 120 for task in fleet.tasks)
        throttled = fleet.elb.throttled
        await asyncio.sleep(HOUR_S)
        assert fleet.elb.throttled == throttled
        assert fleet.per_s(STEADY_S, STEADY_S + HOUR_S) <= 2.1
        for polling in running:
            polling.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    run(scenario())
