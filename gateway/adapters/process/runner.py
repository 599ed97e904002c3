"""The runner `process`: a program on this machine, in its own process group, that outlives the manager.

A shell stands between: it lets only one of two tries begin an attempt, keeps the end of the output, and writes down how
the command ended, for whichever manager is there then. A process is known by machine life, pid and start time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gateway.adapters.process import scripts
from gateway.adapters.process.folder import TAIL_BYTES, Home, JobFolder, Known, boot_id, describe, start_time
from gateway.rotation import Rotation
from gateway.telemetry.log import Log
from gateway.workflows.job_access import JobAccess
from gateway.workflows.names import public_id
from gateway.workflows.ports import Report
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Happening, Submitted

TERM_S = 10.0
# How long a process that has begun may take to say who it is.
KNOWN_S = 5.0
KNOWN_TRIES = 100
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELL = "/bin/sh"
_NO_USER = "nobody"
_NOT_BEGUN = "it was not wanted any more before it began"
_Key = tuple[str, Attempt]
_log = Log("workflows")


class _Waiting(NamedTuple):
    """An attempt that may begin."""

    folder: JobFolder
    work: Mapping[str, Any]


class _Job:
    """An attempt that is at work. `child` None: an earlier process has begun it."""

    def __init__(self, folder: JobFolder, known: Known, child: subprocess.Popen[bytes] | None) -> None:
        self.folder = folder
        self.known = known
        self.child = child
        self.killing: asyncio.TimerHandle | None = None


class ProcessRunner:
    """See `gateway.workflows.ports.NodeRunner`. `folder` holds a folder for each attempt.

    `user` is whom jobs run as where this program is root; "": nobody. `memory_bytes` 0: no limit. More than `maximum`
    do not run at a time, but for those that an earlier process has begun.
    """

    name = "process"
    for_admins = True
    deduplicates = False
    movable = False

    def __init__(
        self,
        folder: Path,
        report: Report,
        access: JobAccess,
        user: str = "",
        memory_bytes: int = 0,
        maximum: int = 200,
    ) -> None:
        self._folder = folder.absolute()
        self._report = report
        self._access = access
        self._memory_kib = str(memory_bytes // 1024) if memory_bytes else "unlimited"
        self._script = (Path(__file__).parent / "job.sh").read_text("utf-8")
        self._owner = _owner(user)
        self._user = os.geteuid() if self._owner is None else self._owner[0]
        self._maximum = maximum
        self._jobs: dict[_Key, _Job] = {}
        # Not begun: where they will be found is not stored yet. Each with its account.
        self._prepared: dict[_Key, tuple[str, Mapping[str, Any]]] = {}
        # Those that wait for another to end; who is not in `_in_line` has left it.
        self._line: Rotation[_Key, _Waiting] = Rotation()
        self._in_line: dict[_Key, JobFolder] = {}
        # Being begun or looked for; and of those, what was told to stop meanwhile.
        self._starting: set[_Key] = set()
        self._unwanted: set[_Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        for name in work["environment"]:
            if name.startswith(("HEIWA_", "LD_")):
                return f"environment: {name} cannot be set"
        return scripts.problem(work["command"])

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        if (run, attempt) not in self._jobs and (run, attempt) not in self._starting:
            self._prepared[run, attempt] = account, work
            self._report(run, Submitted(attempt, str(Home(boot_id(), str(self._path(run, attempt))))))

    async def proceed(self, run: str, attempt: Attempt) -> None:
        account, work = self._prepared.pop((run, attempt), ("", None))
        if work is not None:
            self._queue(account, (run, attempt), _Waiting(JobFolder(self._path(run, attempt)), work))

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
        if key in self._jobs or key in self._starting or key in self._in_line:
            return
        if external is None:
            await self.submit(run, account, attempt, work)
            return
        self._prepared.pop(key, None)
        with self._coming(key):
            waiting = await self._adopt(key, Home.parse(external), work, wanted=wanted)
        if waiting is not None:
            self._queue(account, key, waiting)
        self._fill()

    async def _adopt(self, key: _Key, home: Home, work: Mapping[str, Any], *, wanted: bool) -> _Waiting | None:
        """What is left to be begun; None: nothing."""
        run, attempt = key
        folder = JobFolder(Path(home.folder))
        if home.boot != boot_id() or folder.exit_code() is not None:
            self._report(run, _outcome(attempt, folder))
        elif (not wanted or key in self._unwanted) and await asyncio.to_thread(folder.take, self._owner):
            self._report(run, Failed(attempt, _NOT_BEGUN))
        elif not folder.has_started:
            return _Waiting(folder, work)
        elif (known := await self._began(folder)) is not None:
            self._watch(key, _Job(folder, known, None))
        else:
            self._report(run, Failed(attempt, "nobody knows what became of its process", lost=True))
        return None

    def _queue(self, account: str, key: _Key, waiting: _Waiting) -> None:
        """Begin it, or when others have ended; accounts take turns."""
        self._in_line[key] = waiting.folder
        self._line.put(account, key, waiting)
        self._fill()

    def _fill(self) -> None:
        while self._line and len(self._jobs) + len(self._starting - self._jobs.keys()) < self._maximum:
            following = self._line.take()
            if self._in_line.pop(following.key, None) is not None:
                self._spawn(following.key, partial(self._start, following.key, *following.value))

    def _spawn(self, key: _Key, work: Callable[[], Awaitable[None]]) -> None:
        self._starting.add(key)
        task = asyncio.create_task(self._carry_out(key, work), name=f"workflow process {key[0]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, key: _Key, work: Callable[[], Awaitable[None]]) -> None:
        run, attempt = key
        try:
            with self._coming(key):
                await work()
        except Exception as error:
            # Without a word the attempt would stand for ever.
            _log.error("workflow_process_failed", exc_info=error, run=run, node=attempt.path)
            self._report(run, Failed(attempt, f"could not be begun: {type(error).__name__}: {error}"))
        self._fill()

    async def _give_up(self, key: _Key, folder: JobFolder) -> None:
        """It has waited in line; an earlier try may have begun it."""
        run, attempt = key
        if await asyncio.to_thread(folder.take, self._owner):
            self._report(run, Failed(attempt, _NOT_BEGUN))
        elif (known := await self._began(folder)) is not None:
            self._watch(key, _Job(folder, known, None), unwanted=True)
        else:
            self._report(run, Failed(attempt, "nobody knows what became of its process", lost=True))

    async def _start(self, key: _Key, folder: JobFolder, work: Mapping[str, Any]) -> None:
        """Begin it, unless somebody else is faster; then that is watched."""
        child = await asyncio.to_thread(self._begin, folder, *key, work)
        # It is ours until it is waited for, so that it has a start time even if it has ended.
        self._watch(key, _Job(folder, Known(child.pid, start_time(child.pid) or 0), child))

    @contextlib.contextmanager
    def _coming(self, key: _Key) -> Iterator[None]:
        self._starting.add(key)
        try:
            yield
        finally:
            self._starting.discard(key)
            self._unwanted.discard(key)

    async def stop(self, run: str, attempt: Attempt) -> None:
        key = run, attempt
        if self._prepared.pop(key, None) is not None:
            self._report(run, Failed(attempt, _NOT_BEGUN))
            return
        folder = self._in_line.pop(key, None)
        if folder is not None:
            self._spawn(key, partial(self._give_up, key, folder))
            return
        job = self._jobs.get(key)
        if job is None and key in self._starting:
            self._unwanted.add(key)
        elif job is not None and job.killing is None:
            self._kill(job)

    async def forget(self, attempts: Sequence[str]) -> None:
        await asyncio.to_thread(self._remove, attempts)

    def _remove(self, attempts: Sequence[str]) -> None:
        for name in attempts:
            JobFolder(self._folder / name).remove()

    async def close(self) -> None:
        """The processes live on, and the next manager adopts them."""
        for job in self._jobs.values():
            if job.killing is not None:
                job.killing.cancel()
        self._jobs.clear()
        self._in_line.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _path(self, run: str, attempt: Attempt) -> Path:
        return self._folder / public_id(run, attempt)

    def _begin(self, folder: JobFolder, run: str, attempt: Attempt, work: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        folder.make(self._owner)
        environment = {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            **work["environment"],
            "HEIWA_RUN": run,
            "HEIWA_NODE": attempt.path,
            "HEIWA_ITERATION": str(attempt.iteration),
            "HEIWA_ATTEMPT": public_id(run, attempt),
            **self._access.environment(public_id(run, attempt)),
        }
        as_user: dict[str, Any] = {}
        if self._owner is not None:
            as_user = {"user": self._owner[0], "group": self._owner[1], "extra_groups": []}
        return subprocess.Popen(  # noqa: S603 - to run what a definition says is what this is for
            [_SHELL, "-c", self._script, "job", str(TAIL_BYTES), self._memory_kib, *work["command"]],
            cwd=folder.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,
            **as_user,
        )

    async def _began(self, folder: JobFolder) -> Known | None:
        """Who began the attempt; between beginning and saying who it is there is a moment."""
        for _ in range(KNOWN_TRIES):
            if (known := folder.known(self._user)) is not None:
                return known
            await asyncio.sleep(KNOWN_S / KNOWN_TRIES)
        return None

    def _watch(self, key: _Key, job: _Job, *, unwanted: bool = False) -> None:
        """Tell of its end."""
        run, attempt = key
        descriptor = _open(job.known)
        if descriptor is None:
            self._report(run, _outcome(attempt, job.folder))
            return
        self._jobs[key] = job
        asyncio.get_running_loop().add_reader(descriptor, self._ended, key, descriptor)
        if unwanted or key in self._unwanted:
            self._kill(job)

    def _kill(self, job: _Job) -> None:
        _signal_group(job.known, signal.SIGTERM)
        job.killing = asyncio.get_running_loop().call_later(TERM_S, _signal_group, job.known, signal.SIGKILL)

    def _ended(self, key: _Key, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        job = self._jobs.pop(key, None)
        if job is None:
            return
        if job.killing is not None:
            job.killing.cancel()
        if job.child is not None:
            # What it left behind in its group; until it is waited for, its number is nobody else's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(job.known.pid, signal.SIGKILL)
            job.child.poll()
            other = job.folder.known(self._user)
            if other is not None and other != job.known:
                # An earlier try was faster, and ours has left it the attempt.
                self._watch(key, _Job(job.folder, other, None), unwanted=job.killing is not None)
                return
        self._report(key[0], _outcome(key[1], job.folder))
        self._fill()


def _outcome(attempt: Attempt, folder: JobFolder) -> Happening:
    code = folder.exit_code()
    if code is None:
        return Failed(attempt, "its process was killed, or the machine went down", lost=True)
    if code == 0:
        try:
            return Finished(attempt, folder.result())
        except ValueError as error:
            return Failed(attempt, str(error), again=False)
    said = folder.said()
    return Failed(attempt, f"{describe(code)}: {said}" if said else describe(code))


def _open(known: Known) -> int | None:
    """A descriptor that can be read once the process has ended; None: it has."""
    try:
        descriptor = os.pidfd_open(known.pid)
    except ProcessLookupError:
        return None
    # The number may have been given to another process in between.
    if start_time(known.pid) != known.started:
        os.close(descriptor)
        return None
    return descriptor


def _signal_group(known: Known, number: int) -> None:
    if start_time(known.pid) == known.started:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(known.pid, number)


def _owner(user: str) -> tuple[int, int] | None:
    """Whom jobs run as; None: as ourselves, which is not root. Raises KeyError for an unknown user."""
    if os.geteuid() != 0:
        return None
    found = pwd.getpwnam(user or _NO_USER)
    return found.pw_uid, found.pw_gid
