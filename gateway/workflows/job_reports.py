"""What jobs say of their attempts by themselves: that they begin, how far they are, how they ended.

A job proves by a secret that it speaks for an attempt; the secret is worked out, not looked up, so a guess costs no
look into the store and learns nothing of what is there.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.clock import Clock
from gateway.errors import StoreError, TooManyReportsError
from gateway.telemetry.log import Log
from gateway.workflows.names import attempt_secret
from gateway.workflows.ports import WorkflowStore
from gateway.workflows.records import AttemptFound, SignalKind

# How often progress is stored; of each attempt the newest.
PACE_S = 1.0
MAX_PENDING = 10_000
_KNOWN = "its outcome is known already"
_OTHER = "another job works on it"
_log = Log("workflows")


class Started(NamedTuple):
    """Whether the job that asked is the one to work; `why` not."""

    start: bool
    why: str = ""


class Heard(NamedTuple):
    """Whether what a job said counts; `why` not."""

    counts: bool
    why: str = ""


class JobReports:
    """`key` is the store's. `notice` wakes the manager of this process, if it is here."""

    def __init__(self, store: WorkflowStore, key: bytes, clock: Clock, notice: Callable[[], None]) -> None:
        self._store = store
        self._key = key
        self._clock = clock
        self._notice = notice
        self._pending: dict[str, tuple[str, SignalKind, Any]] = {}
        self._something = asyncio.Event()

    def secret(self, public: str) -> str:
        """What a job of this attempt is given."""
        return attempt_secret(self._key, public)

    def knows(self, public: str, secret: str) -> bool:
        """Whether it is the attempt's secret, in a time that tells nothing of it."""
        return hmac.compare_digest(self.secret(public).encode(), secret.encode())

    async def start(self, public: str, job: str) -> Started | None:
        """Of two jobs of one attempt the first one works. None: there is no such attempt. Raises StoreError."""
        found = await self._store.start_attempt(public, job, self._clock.time_ms())
        if found is None:
            return None
        if found.starter == job and found.wanted:
            self._notice()
            return Started(start=True)
        return Started(start=False, why=_why_not(found, job) or _OTHER)

    async def report(self, public: str, job: str | None, percent: float | None, message: str | None) -> Heard | None:
        """Take in how far it is; it counts while it is still wanted. None: there is no such attempt.

        What is stored is the newest report of an attempt, once in PACE_S. Raises StoreError, TooManyReportsError.
        """
        found = await self._store.attempt(public)
        if found is None:
            return None
        if why := _why_not(found, job):
            return Heard(counts=False, why=why)
        if public not in self._pending and len(self._pending) >= MAX_PENDING:
            raise TooManyReportsError(f"{MAX_PENDING} attempts have reported in this second; try again")
        body = {"attempt": found.attempt, "percent": percent, "message": message}
        self._pending[public] = (found.run, SignalKind.REPORT, body)
        self._something.set()
        return Heard(counts=True)

    async def end(self, public: str, job: str | None, body: dict[str, Any]) -> Heard:
        """Store how it ended; it does not count when that is known, or another job works on it.

        `body` has `ok`, and `value` or `error` and `again`. Raises StoreError.
        """
        # What it said before says nothing now.
        self._pending.pop(public, None)
        taken = await self._store.end_attempt(public, job, body, self._clock.time_ms())
        if taken:
            self._notice()
            return Heard(counts=True)
        found = await self._store.attempt(public)
        return Heard(counts=False, why="" if found is None else _why_not(found, job) or _KNOWN)

    async def run(self) -> None:
        """Store progress at its pace. Until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            await self.flush()
            await asyncio.sleep(PACE_S)

    async def flush(self) -> None:
        """Store what was reported; what the store does not take now is old news by the next time."""
        told, self._pending = list(self._pending.values()), {}
        if not told:
            return
        try:
            await self._store.signals_told(told, self._clock.time_ms())
        except StoreError as error:
            _log.warning("workflow_store_away", message=str(error))
            return
        except Exception as error:
            # Progress is never worth a process.
            _log.error("workflow_progress_dropped", exc_info=error, count=len(told))
            return
        self._notice()


def _why_not(found: AttemptFound, job: str | None) -> str:
    """Why a job is not heard; "": it is. Of two jobs only the one that began it is."""
    if found.over:
        return _KNOWN
    if found.starter not in (None, job):
        return _OTHER if job is not None else "job is missing: it has to be the one that was given to start"
    return "" if found.wanted else "it is not wanted any more"
