"""What is outside of managers in a simulation: time, chance, jobs that run on whatever happens to us, and a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from gateway.workflows.names import public_id
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Happening


@dataclass
class Job:
    """One attempt that has begun, outside. `ended_s` None: it is at work."""

    run: str
    attempt: Attempt
    begun_s: float
    outcome: Happening
    ended_s: float | None = None
    listeners: list[Callable[[Job], None]] = field(default_factory=list)


class World:
    """Jobs by their public ids. A job begins once, however often it is asked for: that is what the start gate is."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.jobs: dict[str, Job] = {}
        self.refused: set[str] = set()
        self.trace: list[str] = []
        # Session locks that processes hold, and how often the database was started.
        self.locks: set[int] = set()
        self.starts = 0
        # Whether the clocks of processes differ.
        self.skewed = chance.random() < 0.3

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def note(self, text: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{self.now_s():9.3f}  {text}")

    def find(self, run: str, attempt: Attempt) -> Job | None:
        return self.jobs.get(public_id(run, attempt))

    def refuse(self, run: str, attempt: Attempt) -> bool:
        """Nobody begins it any more; False: somebody has."""
        if self.find(run, attempt) is not None:
            return False
        self.refused.add(public_id(run, attempt))
        return True

    def begin(self, run: str, attempt: Attempt) -> Job:
        """Begin it, or find it."""
        found = self.find(run, attempt)
        if found is not None:
            return found
        if public_id(run, attempt) in self.refused:
            return Job(run, attempt, self.now_s(), Failed(attempt, "refused", lost=True), self.now_s())
        outcome: Happening = Finished(attempt, {"ready": self.chance.random() < 0.6})
        if self.chance.random() < 0.25:
            outcome = Failed(attempt, "broken", again=self.chance.random() < 0.9)
        job = Job(run, attempt, self.now_s(), outcome)
        self.jobs[public_id(run, attempt)] = job
        self.note(f"job {_short(run)} {attempt.path}[{attempt.iteration}] #{attempt.number} begins")
        asyncio.get_running_loop().call_later(self.chance.choice([0, 0.01, 0.5, 3, 30]), self._end, job)
        return job

    def stop(self, job: Job) -> None:
        """It is told to end, and does so in its own time; now and then it is done first."""
        if job.ended_s is None and self.chance.random() < 0.8:
            job.outcome = Failed(job.attempt, "killed")
            asyncio.get_running_loop().call_later(self.chance.choice([0, 0.1, 2]), self._end, job)

    def _end(self, job: Job) -> None:
        if job.ended_s is not None:
            return
        job.ended_s = self.now_s()
        how = "ok" if isinstance(job.outcome, Finished) else "failed"
        self.note(f"job {_short(job.run)} {job.attempt.path}[{job.attempt.iteration}] #{job.attempt.number} {how}")
        listeners, job.listeners = job.listeners, []
        for listener in listeners:
            listener(job)


def _short(run: str) -> str:
    return run[-4:]
