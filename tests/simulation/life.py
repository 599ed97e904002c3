"""One life of a process in a simulation: it can die between any two calls of its store, or be stopped and wake up.

It has a manager, a rebalancer, or both. Others see its session lock, which goes when it dies, and now and then without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.adapters.sql.balance_store import SqlBalanceStore
from gateway.errors import ManagerReplacedError, StoreError
from gateway.workflows.figures import BalanceFigures
from gateway.workflows.fleet import FleetSeen
from gateway.workflows.manager import Manager
from gateway.workflows.ports import Alone
from gateway.workflows.rebalancer import Rebalancer
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Happening, Submitted
from tests.simulation.world import Job, World
from tests.support.virtual_time import LoopClock

MANAGER, BOTH, REBALANCER = frozenset({"manager"}), frozenset({"manager", "rebalancer"}), frozenset({"rebalancer"})
# Of each thing that a life does, to be its last.
FATE = 0.01


class Life:
    """`store` is the real one. `name` is the manager's, `number` counts lives. `roles` are what it has."""

    def __init__(self, world: World, store: Any, name: str, number: int, roles: frozenset[str] = MANAGER) -> None:
        self.world = world
        self.number = number
        self.awake = asyncio.Event()
        self.awake.set()
        self.mortal = True
        self._fate = asyncio.Event()
        self.roles = roles
        self.killed = False
        self.replaced = False
        self.runner = SimulatedRunner(self)
        self.lock = SimulatedLock(world, number) if "rebalancer" in roles or name != "local" else None
        presence: Any = self.lock or Alone()
        clock = SkewedClock(world)
        self.manager = Manager(
            _Faulty(self, store),
            {"process": self.runner},
            clock,
            name,
            f"life-{number}",
            cache_bytes=20_000,
            presence=presence,
        )
        balance = _Balance(self, SqlBalanceStore(store))
        self.rebalancer = Rebalancer(balance, clock, f"life-{number}", presence, BalanceFigures())
        self.runner.report = self.manager.report
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self._live(), name=f"life {self.number}")

    async def _live(self) -> None:
        try:
            if "manager" in self.roles:
                await self.manager.start()
        except StoreError as error:
            # The program ends then, and is started again.
            self.world.note(f"life {self.number} does not begin: {error}")
            self._die()
            return
        try:
            async with asyncio.TaskGroup() as group:
                if "manager" in self.roles:
                    group.create_task(self.manager.run(), name=f"manager {self.number}")
                if "rebalancer" in self.roles:
                    group.create_task(self.rebalancer.run(), name=f"rebalancer {self.number}")
                if self.lock is not None and self.mortal:
                    group.create_task(self._mishaps(self.lock), name=f"mishaps {self.number}")
        except* ManagerReplacedError:
            self.replaced = True
            self.world.note(f"life {self.number} sees that it was replaced")

    async def step(self, what: str) -> None:
        """Between any two things that this life does: time passes, and it may be its last."""
        await self.awake.wait()
        chance = self.world.chance
        if chance.random() < 0.5:
            await asyncio.sleep(chance.choice([0, 0.001, 0.02]))
        if self.mortal and chance.random() < FATE:
            killed = chance.random() < 0.5
            self.world.note(f"life {self.number} is {'killed' if killed else 'stopped'} {what}")
            self.awake.clear()
            if killed:
                self._die()
            self._fate.set()
        await self.awake.wait()

    def _die(self) -> None:
        self.killed = True
        if self.lock is not None:
            self.lock.lose()
        self._fate.set()

    async def _mishaps(self, lock: SimulatedLock) -> None:
        """Its connection is cut for a while although it is alive; or a run takes too much of its time."""
        chance = self.world.chance
        while True:
            await asyncio.sleep(chance.choice([5, 20, 60]))
            await self.awake.wait()
            what = chance.random()
            if what < 0.1:
                self.world.note(f"life {self.number} loses its lock")
                lock.lose()
                await asyncio.sleep(chance.choice([0.5, 2]))
                lock.may_act = False
                await asyncio.sleep(chance.choice([0, 3, 40]))
                lock.hold()
            elif what < 0.2 and self.manager._owned:
                run = chance.choice(sorted(self.manager._owned))
                self.world.note(f"{run} is a hog of life {self.number}")
                self.manager._slices.loop_time.spent(run, 60.0, self.world.now_s())

    def wake(self) -> None:
        """SIGCONT: it goes on as if nothing had been."""
        if self.killed:
            return
        self.world.note(f"life {self.number} wakes up")
        self.awake.set()

    async def over(self) -> None:
        """Until it dies or is stopped. Raises what ended it that must not have."""
        assert self._task is not None
        fate = asyncio.create_task(self._fate.wait(), name="fate")
        await asyncio.wait([fate, self._task], return_when=asyncio.FIRST_COMPLETED)
        fate.cancel()
        if self._task.done() and not self._fate.is_set():
            self._task.result()

    async def end(self) -> None:
        """For good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class SimulatedLock:
    """The Presence port: a session lock of a process."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self.key = number + 1
        self.may_act = True
        self.lock_key: int | None = None
        self.hold()

    def hold(self) -> None:
        self._world.locks.add(self.key)
        self.lock_key = self.key
        self.may_act = True

    def lose(self) -> None:
        """Others see it at once; the process itself may not yet know."""
        self._world.locks.discard(self.key)


class SkewedClock(LoopClock):
    """Clocks of machines differ; leases must not."""

    def __init__(self, world: World) -> None:
        self._off_ms = world.chance.choice([-1500, 0, 2000]) if world.skewed else 0

    def time_ms(self) -> int:
        return super().time_ms() + self._off_ms


class SimulatedRunner:
    """The NodeRunner port on the world's jobs; reports come late, and some of them twice."""

    name = "process"
    for_admins = False
    deduplicates = False
    movable = True

    def __init__(self, life: Life) -> None:
        self._life = life
        self.report: Any = None
        self._prepared: set[tuple[str, Attempt]] = set()

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        return ""

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        await self._life.step("before submit")
        if self._life.world.find(run, attempt) is None:
            self._prepared.add((run, attempt))
        self._tell(run, Submitted(attempt, "job"))

    async def proceed(self, run: str, attempt: Attempt) -> None:
        await self._life.step("before proceed")
        if (run, attempt) in self._prepared:
            self._prepared.discard((run, attempt))
            self._follow(run, self._life.world.begin(run, attempt))
        await self._life.step("behind proceed")

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
        await self._life.step("before adopt")
        if external is None:
            await self.submit(run, account, attempt, work)
        elif not wanted and self._life.world.refuse(run, attempt):
            self._prepared.discard((run, attempt))
            self._tell(run, Failed(attempt, "not begun"))
        else:
            self._prepared.discard((run, attempt))
            self._follow(run, self._life.world.begin(run, attempt))

    async def stop(self, run: str, attempt: Attempt) -> None:
        await self._life.step("before stop")
        if (run, attempt) in self._prepared:
            self._prepared.discard((run, attempt))
            self._tell(run, Failed(attempt, "not begun"))
        elif (job := self._life.world.find(run, attempt)) is not None:
            self._life.world.stop(job)

    async def forget(self, attempts: Sequence[str]) -> None:
        """Nothing is deleted."""

    async def close(self) -> None:
        """Jobs live on."""

    def _follow(self, run: str, job: Job) -> None:
        if job.ended_s is None:
            job.listeners.append(lambda ended: self._tell(run, ended.outcome))
        else:
            self._tell(run, job.outcome)

    def _tell(self, run: str, happening: Happening) -> None:
        chance = self._life.world.chance
        for _ in range(2 if chance.random() < 0.2 else 1):
            delay_s = chance.choice([0, 0, 0.001, 0.1])
            asyncio.get_running_loop().call_later(delay_s, self.report, run, happening)


class _Balance:
    """The real statements, with the locks of the world; each call is a place to die."""

    def __init__(self, life: Life, store: SqlBalanceStore) -> None:
        self._life = life
        self._calls = _Faulty(life, store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    async def fleet(self, *, counted: bool) -> FleetSeen:
        found: FleetSeen = await self._calls.fleet(counted=counted)
        world = self._life.world
        if self._life.mortal and world.chance.random() < 0.002:
            world.note("the database was started anew")
            world.starts += 1
        return found._replace(locks=frozenset(world.locks), server=str(world.starts))


class _Faulty:
    """A store whose every call is a place to die, before it or behind; or it fails, and who knows how far it came."""

    def __init__(self, life: Life, store: Any) -> None:
        self._life = life
        self._store = store

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        async def faulty(*arguments: Any, **named: Any) -> Any:
            await self._life.step(f"before {name}")
            # The last life has to get on.
            chance = self._life.world.chance.random() if self._life.mortal else 1.0
            if chance < 0.01:
                raise StoreError(f"{name}: the connection was lost before")
            found = await call(*arguments, **named)
            if chance < 0.02:
                raise StoreError(f"{name}: the connection was lost behind")
            await self._life.step(f"behind {name}")
            return found

        return faulty
