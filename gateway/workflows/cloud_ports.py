"""What a cloud's service of jobs is to the runner that watches them: AWS Batch, Amazon ECS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class JobState(NamedTuple):
    """`running`: it has begun. `error` "" unless it ended badly; `lost`: nobody knows how it ended. `waits`: why it
    cannot begin; "": it can, or the service does not say."""

    running: bool
    ended: bool = False
    error: str = ""
    lost: bool = False
    waits: str = ""


class CloudJobs(Protocol):
    """Every call raises CallError."""

    name: str
    # Whether it submits once, however often it is asked to under one public id.
    deduplicates: bool

    def problem(self, account: str, work: Mapping[str, Any], *, final: bool) -> str:
        """What the account may not use of what is named; "": nothing. Not `final`: expressions have no value yet."""

    async def find(self, public: str, work: Mapping[str, Any]) -> str | None:
        """A job that was submitted under this name. None: there is none, as far as the service says."""

    async def submit(self, public: str, work: Mapping[str, Any], environment: Mapping[str, str]) -> str:
        """Submit one under this name; what it is called there."""

    async def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        """Where they stand; those that the service does not know are left out."""

    async def stop(self, job: str, why: str) -> None:
        """Have it end; harmless for one that has."""

    async def close(self) -> None:
        """Release everything."""
