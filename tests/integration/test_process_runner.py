"""The runner `process`, without a manager: what it begins, and what it must not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway.adapters.process.runner import ProcessRunner
from gateway.workflows.job_access import JobAccess
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Happening, Submitted

WITHIN_S = 30
ATTEMPT = Attempt("a", 0, 1)


class Bench:
    """`runner` and what it has told."""

    def __init__(self, folder: Path) -> None:
        self.told: list[Happening] = []
        self._more = asyncio.Event()
        self.runner = ProcessRunner(folder, self._hear, JobAccess("", b"key"))

    def _hear(self, run: str, happening: Happening) -> None:
        self.told.append(happening)
        self._more.set()

    async def end(self) -> Happening:
        async with asyncio.timeout(WITHIN_S):
            while not self.told or isinstance(self.told[-1], Submitted):
                self._more.clear()
                await self._more.wait()
        return self.told[-1]


async def test_what_was_told_to_stop_is_never_begun(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    seen = tmp_path / "seen"
    work: dict[str, Any] = {"command": ["touch", str(seen)], "environment": {}}
    first, second = Bench(folder), Bench(folder)
    await first.runner.submit("run", "acme", ATTEMPT, work)
    (submitted,) = first.told
    assert isinstance(submitted, Submitted)
    # Where it will be found is stored, and then it was told to stop; another manager finds it so.
    await second.runner.adopt("run", "acme", ATTEMPT, submitted.external, work, wanted=False)
    refused = await second.end()
    assert isinstance(refused, Failed)
    assert "before it began" in refused.error
    # The first one wakes up and goes on with what it was about to do.
    await first.runner.proceed("run", ATTEMPT)
    assert isinstance(await first.end(), Failed)
    assert not seen.exists()
    for bench in (first, second):
        await bench.runner.close()


async def test_how_it_ended_is_told_although_it_was_told_to_stop(tmp_path: Path) -> None:
    first, second = Bench(tmp_path / "jobs"), Bench(tmp_path / "jobs")
    work: dict[str, Any] = {"command": ["echo", '{"n": 1}'], "environment": {}}
    await first.runner.submit("run", "acme", ATTEMPT, work)
    (submitted,) = first.told
    assert isinstance(submitted, Submitted)
    await first.runner.proceed("run", ATTEMPT)
    assert await first.end() == Finished(ATTEMPT, {"n": 1})
    await second.runner.adopt("run", "acme", ATTEMPT, submitted.external, work, wanted=False)
    assert await second.end() == Finished(ATTEMPT, {"n": 1})
    for bench in (first, second):
        await bench.runner.close()
