"""The runners `batch` and `ecs`: jobs that a cloud's service carries out, found again by the attempt's public id.

A job is submitted under the attempt's public id. Whoever does not know whether that has happened looks for the name
first. Where the service can have two jobs of one name all the same, the start gate lets one of them work, and that one
is watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gateway.errors import CallError, CallErrorKind, StoreError
from gateway.gate import Gate
from gateway.telemetry.log import Log
from gateway.workflows.cloud_ports import CloudJobs, JobState
from gateway.workflows.job_access import JobAccess
from gateway.workflows.names import public_id
from gateway.workflows.ports import Report
from gateway.workflows.records import AttemptFound
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Happening, Progress, Submitted

POLL_S = 5.0
# Of one call: both services take as many.
MAX_ASKED = 100
SUBMITTING = 8
# A refusal for load is over in a moment; each pause is twice the one before, up to MAX_PAUSE_S.
PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
# Nine minutes: instances that a full cluster waits for take two to five to start.
TRIES = 24
# A job that was just submitted may not be shown yet.
MISSING = 3
_NOT_DONE = (CallErrorKind.THROTTLED, CallErrorKind.EXPIRED)
_FINAL = (CallErrorKind.OTHER, CallErrorKind.NOT_FOUND)
_log = Log("workflows")
Key = tuple[str, Attempt]


class _Watched:
    __slots__ = ("job", "missing", "running", "unread", "unwanted", "waits")

    def __init__(self, job: str) -> None:
        self.job = job
        self.missing = self.unread = 0
        self.running = self.unwanted = False
        self.waits = ""


class CloudRunner:
    """See `gateway.workflows.ports.NodeRunner`. `find` looks an attempt up in the store, by its public id."""

    for_admins = False
    movable = True

    def __init__(
        self,
        jobs: CloudJobs,
        report: Report,
        access: JobAccess,
        find: Callable[[str], Awaitable[AttemptFound | None]],
        poll_s: float = POLL_S,
    ) -> None:
        self.name = jobs.name
        self.deduplicates = jobs.deduplicates
        self._jobs = jobs
        self._report = report
        self._access = access
        self._find = find
        self._poll_s = poll_s
        self._room = Gate(SUBMITTING, SUBMITTING)
        self._beginning: dict[Key, asyncio.Task[None]] = {}
        self._watched: dict[Key, _Watched] = {}
        self._unwanted: set[Key] = set()
        self._stopping: dict[Key, asyncio.Task[None]] = {}
        self._polling: asyncio.Task[None] | None = None

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        return self._jobs.problem(account, work, final=False)

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        self._begin((run, attempt), account, work, known=True)

    async def proceed(self, run: str, attempt: Attempt) -> None:
        """It has been submitted."""

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
        key = run, attempt
        if key in self._watched or key in self._beginning:
            return
        if external is not None:
            self._watch(key, external)
        elif work is None:
            self._report(run, Failed(attempt, "nobody knows what was asked for", lost=True))
        else:
            if not wanted:
                self._unwanted.add(key)
            self._begin(key, account, work, known=False)

    async def stop(self, run: str, attempt: Attempt) -> None:
        key = run, attempt
        if key in self._beginning:
            # What is under way is not cut: it may be submitted this very moment.
            self._unwanted.add(key)
        elif key in self._watched:
            self._end(key)

    async def forget(self, attempts: Sequence[str]) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """The jobs live on, and the next manager adopts them."""
        tasks = [*self._beginning.values(), *self._stopping.values()]
        if self._polling is not None:
            tasks.append(self._polling)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._jobs.close()

    # Submitting

    def _begin(self, key: Key, account: str, work: Mapping[str, Any], *, known: bool) -> None:
        """`known`: nobody has submitted it before."""
        if key in self._beginning or key in self._watched:
            return
        task = asyncio.create_task(self._submit(key, account, work, known), name=f"workflow {self.name} {key[0]}")
        self._beginning[key] = task
        task.add_done_callback(lambda _: self._begun(key))

    def _begun(self, key: Key) -> None:
        self._beginning.pop(key, None)
        self._unwanted.discard(key)

    async def _submit(self, key: Key, account: str, work: Mapping[str, Any], known: bool) -> None:
        run, attempt = key
        # An input is a tenant's, too: what is named is looked at again now that it has its value.
        refused = self._jobs.problem(account, work, final=True)
        if refused:
            self._report(run, Failed(attempt, refused, again=False))
            return
        try:
            job = await self._submitted(key, account, work, known)
        except CallError as error:
            lost = error.kind is CallErrorKind.UNREACHABLE
            self._report(run, Failed(attempt, str(error), again=error.kind not in _FINAL, lost=lost))
            return
        except Exception as error:
            # Without a word the attempt would stand for ever.
            _log.error("workflow_job_failed", exc_info=error, runner=self.name, run=run, node=attempt.path)
            self._report(run, Failed(attempt, f"it could not be submitted: {type(error).__name__}", lost=True))
            return
        if job is None:
            self._report(run, Failed(attempt, "it was not wanted any more before it began"))
            return
        self._watch(key, job)
        self._report(run, Submitted(attempt, job))
        if key in self._unwanted:
            self._end(key)

    async def _submitted(self, key: Key, account: str, work: Mapping[str, Any], known: bool) -> str | None:
        """What it is called there; None: it was not submitted, for it is not wanted any more.

        Raises CallError for a refusal, or when it has been tried for long.
        """
        run, attempt = key
        name, pause_s = public_id(run, attempt), PAUSE_S
        environment = self._environment(run, attempt, name)
        for left in reversed(range(TRIES)):
            try:
                async with self._room.place(account):
                    found = None if known else await self._jobs.find(name, work)
                    known = True
                    if found is not None or key in self._unwanted:
                        return found
                    return await self._jobs.submit(name, work, environment)
            except CallError as error:
                if error.kind not in (*_NOT_DONE, CallErrorKind.UNREACHABLE) or not left:
                    raise
                # Without an answer nobody knows whether it was submitted.
                known = known and error.kind in _NOT_DONE
                _log.warning("workflow_job_not_submitted", runner=self.name, run=run, message=str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)
        raise AssertionError

    def _environment(self, run: str, attempt: Attempt, name: str) -> dict[str, str]:
        return {
            "HEIWA_RUN": run,
            "HEIWA_NODE": attempt.path,
            "HEIWA_ITERATION": str(attempt.iteration),
            "HEIWA_ATTEMPT": name,
            **self._access.environment(name),
        }

    # Watching

    def _watch(self, key: Key, job: str) -> None:
        self._watched[key] = _Watched(job)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll(), name=f"workflow {self.name} jobs")

    async def _poll(self) -> None:
        """As long as there are jobs."""
        pause_s = self._poll_s
        while self._watched:
            await asyncio.sleep(pause_s)
            try:
                await self._look()
            except (CallError, StoreError) as error:
                _log.warning("workflow_jobs_unknown", runner=self.name, message=str(error))
                pause_s = min(MAX_PAUSE_S, 2 * pause_s)
            else:
                pause_s = self._poll_s

    async def _look(self) -> None:
        """Raises CallError, StoreError; those that were not looked at are the next time."""
        keys = list(self._watched)
        for first in range(0, len(keys), MAX_ASKED):
            some = keys[first : first + MAX_ASKED]
            try:
                await self._look_at(some)
            except (CallError, StoreError):
                raise
            except Exception as error:
                # What is said of one of them cannot be read: it must not hide the others.
                _log.error("workflow_jobs_unreadable", exc_info=error, runner=self.name)
                for key in some:
                    await self._look_alone(key)

    async def _look_at(self, keys: Sequence[Key]) -> None:
        some = {key: one for key in keys if (one := self._watched.get(key)) is not None}
        if not some:
            return
        states = await self._jobs.states(sorted({one.job for one in some.values()}))
        for key, one in some.items():
            await self._seen(key, one, states.get(one.job))

    async def _look_alone(self, key: Key) -> None:
        run, attempt = key
        try:
            await self._look_at([key])
        except (CallError, StoreError):
            raise
        except Exception as error:
            one = self._watched.get(key)
            if one is None:
                return
            one.unread += 1
            if one.unread >= MISSING:
                del self._watched[key]
                _log.error("workflow_job_failed", exc_info=error, runner=self.name, run=run, node=attempt.path)
                self._report(run, Failed(attempt, f"what became of it is not known: {type(error).__name__}", lost=True))

    async def _seen(self, key: Key, one: _Watched, state: JobState | None) -> None:
        run, attempt = key
        if state is None:
            one.missing += 1
            if one.missing >= MISSING:
                await self._ended(key, one, JobState(running=False, ended=True, error="it is not known", lost=True))
            return
        one.missing = 0
        if state.ended:
            await self._ended(key, one, state)
        elif state.running and not one.running:
            one.running = True
            self._report(run, Progress(attempt))
        elif state.waits != one.waits:
            one.waits = state.waits
            if state.waits:
                _log.warning("workflow_job_waits", runner=self.name, run=run, node=attempt.path, why=state.waits)

    async def _ended(self, key: Key, one: _Watched, state: JobState) -> None:
        """What the job said of its end counts more than what is seen of it, and so does the job that was let work."""
        run, attempt = key
        found = await self._find(public_id(run, attempt))
        starter = None if found is None else found.starter
        if found is not None and not found.over and starter not in (None, one.job) and not state.lost:
            self._watched[key] = _Watched(str(starter))
            if one.unwanted:
                self._end(key)
            return
        self._watched.pop(key, None)
        if found is not None and not found.over:
            self._report(run, _outcome(attempt, state))

    def _end(self, key: Key) -> None:
        if key not in self._stopping:
            self._stopping[key] = asyncio.create_task(self._stop(key), name=f"workflow {self.name} stop {key[0]}")
            self._stopping[key].add_done_callback(lambda _: self._stopping.pop(key, None))

    async def _stop(self, key: Key) -> None:
        """Until the service has taken it, or the job has ended by itself; of two the one that works, too."""
        pause_s = PAUSE_S
        while (one := self._watched.get(key)) is not None:
            one.unwanted = True
            try:
                await self._jobs.stop(one.job, "not wanted any more")
            except CallError as error:
                _log.warning("workflow_job_not_stopped", runner=self.name, run=key[0], message=str(error))
            else:
                if self._watched.get(key) in (one, None):
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)


def _outcome(attempt: Attempt, state: JobState) -> Happening:
    return Failed(attempt, state.error, lost=state.lost) if state.error else Finished(attempt, {})
