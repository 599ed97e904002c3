"""One life of a manager in a simulation: it can die between any two calls of its store, or be stopped and wake up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.errors import ManagerReplacedError, StoreError
from gateway.workflows.manager import Manager
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Happening, Submitted
from tests.simulation.world import Job, World
from tests.support.virtual_time import LoopClock

# Of each thing that a life does, to be its last.
FATE = 0.01


class Life:
    """`store` is the real one. `name` is the manager's, `number` counts lives."""

    def __init__(self, world: World, store: Any, name: str, number: int) -> None:
        self.world = world
        self.number = number
        self.awake = asyncio.Event()
        self.awake.set()
        self.mortal = True
        self._fate = asyncio.Event()
        self.runner = SimulatedRunner(self)
        self.manager = Manager(
            _Faulty(self, store), {"process": self.runner}, LoopClock(), name, f"life-{number}", cache_bytes=20_000
        )
        self.runner.report = self.manager.report
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self._live(), name=f"life {self.number}")

    async def _live(self) -> None:
        try:
            await self.manager.start()
        except StoreError as error:
            # The program ends then, and is started again.
            self.world.note(f"life {self.number} does not begin: {error}")
            self._fate.set()
            return
        try:
            await self.manager.run()
        except* ManagerReplacedError:
            self.world.note(f"life {self.number} sees that it was replaced")

    async def step(self, what: str) -> None:
        """Between any two things that this life does: time passes, and it may be its last."""
        await self.awake.wait()
        chance = self.world.chance
        if chance.random() < 0.5:
            await asyncio.sleep(chance.choice([0, 0.001, 0.02]))
        if self.mortal and chance.random() < FATE:
            self.world.note(f"life {self.number} is stopped {what}")
            self.awake.clear()
            self._fate.set()
        await self.awake.wait()

    def wake(self) -> None:
        """SIGCONT: it goes on as if nothing had been."""
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


class SimulatedRunner:
    """The NodeRunner port on the world's jobs; reports come late, and some of them twice."""

    name = "process"
    for_admins = False

    def __init__(self, life: Life) -> None:
        self._life = life
        self.report: Any = None
        self._prepared: set[tuple[str, Attempt]] = set()

    def problem(self, work: Mapping[str, Any]) -> str:
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
        self, run: str, account: str, attempt: Attempt, external: str | None, work: Mapping[str, Any]
    ) -> None:
        await self._life.step("before adopt")
        if external is None:
            await self.submit(run, account, attempt, work)
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
