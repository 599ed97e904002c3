"""A workflow store with a real manager that can be killed and begun again, and jobs that tests end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.adapters import cron
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.adapters.yaml_source import read_yaml
from gateway.workflows.manager import Manager
from gateway.workflows.records import RunDetail
from gateway.workflows.run import Attempt
from gateway.workflows.service import WorkflowService
from gateway.workflows.step import Happening
from tests.support.fake_clock import FakeClock

WITHIN_S = 10.0


class Jobs:
    """A runner whose jobs tests end. `asked` is every attempt that was ever begun, over all lives of the manager."""

    name = "process"
    for_admins = False
    deduplicates = False
    movable = False

    def __init__(self, asked: list[Attempt]) -> None:
        self.asked = asked
        self.stopped: list[Attempt] = []
        self.adopted: list[Attempt] = []
        self.forgotten: list[str] = []
        self.manager: Manager | None = None
        self.more = asyncio.Condition()

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        return ""

    async def _note(self, notes: list[Attempt], attempt: Attempt) -> None:
        async with self.more:
            notes.append(attempt)
            self.more.notify_all()

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        await self._note(self.asked, attempt)

    async def proceed(self, run: str, attempt: Attempt) -> None:
        """It has begun."""

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
        await self._note(self.adopted, attempt)

    async def stop(self, run: str, attempt: Attempt) -> None:
        await self._note(self.stopped, attempt)

    async def forget(self, attempts: Sequence[str]) -> None:
        self.forgotten += attempts

    async def close(self) -> None:
        """Nothing to let go."""

    def report(self, run: str, happening: Happening) -> None:
        assert self.manager is not None
        self.manager.report(run, happening)

    async def until(self, notes: list[Attempt], *attempts: Attempt) -> None:
        async with asyncio.timeout(WITHIN_S), self.more:
            await self.more.wait_for(lambda: set(attempts) <= set(notes))


class Engine:
    """A store with a manager that can be killed and begun again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.asked: list[Attempt] = []

    async def begin(self) -> Engine:
        self.store = SqlWorkflowStore(parse_url(f"sqlite:///{self.path}/w.db"))
        await self.store.open()
        self.jobs = Jobs(self.asked)
        runners: Any = {"process": self.jobs}
        self.manager = Manager(
            self.store,
            runners,
            self.clock,
            "local",
            "i",
            moved=lambda change, _: self.service.moved(change.state.id, change.account),
        )
        self.jobs.manager = self.manager
        chance = random.Random(1)
        manager = self.manager
        self.service = WorkflowService(
            self.store, runners, self.clock, chance, read_yaml, cron, lambda: "local", manager.notice, manager.begin
        )
        await self.manager.start()
        self._task = asyncio.create_task(self.manager.run())
        return self

    async def kill(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.store.close()

    async def put(self, text: str) -> None:
        await self.service.put("acme", text, yaml=True, admin=True, dry_run=False)

    async def run(self, name: str, key: str | None = None) -> str:
        return (await self.service.create("acme", name, None, {}, key)).run

    async def until(self, run: str, holds: Callable[[RunDetail], bool]) -> None:
        """Wait until something holds of the run."""
        async with asyncio.timeout(WITHIN_S):
            with self.service.watching(run) as event:
                while not holds(await self.service.run("acme", run)):
                    await event.wait()
                    event.clear()

    async def until_is(self, run: str, status: str) -> None:
        await self.until(run, lambda found: found.state.status == status)


def first(path: str, iteration: int = 0, number: int = 1) -> Attempt:
    return Attempt(path, iteration, number)
