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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.adapters.process import scripts
from gateway.adapters.process.folder import TAIL_BYTES, Home, JobFolder, Known, boot_id, describe, start_time
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


class _Job:
    """An attempt that is at work. `child` None: an earlier process has begun it."""

    def __init__(self, folder: JobFolder, known: Known, child: subprocess.Popen[bytes] | None) -> None:
        self.folder = folder
        self.known = known
        self.child = child
        self.killing: asyncio.TimerHandle | None = None


class ProcessRunner:
    """See `gateway.workflows.ports.NodeRunner`. `folder` holds a folder for each attempt.

    `user` is whom jobs run as where this program is root; "": nobody. `memory_bytes` 0: no limit.
    """

    name = "process"
    for_admins = True
    deduplicates = False
    movable = False

    def __init__(self, folder: Path, report: Report, access: JobAccess, user: str = "", memory_bytes: int = 0) -> None:
        self._folder = folder.absolute()
        self._report = report
        self._access = access
        self._memory_kib = str(memory_bytes // 1024) if memory_bytes else "unlimited"
        self._script = (Path(__file__).parent / "job.sh").read_text("utf-8")
        self._owner = _owner(user)
        self._user = os.geteuid() if self._owner is None else self._owner[0]
        self._jobs: dict[tuple[str, Attempt], _Job] = {}
        # Not begun: where they will be found is not stored yet.
        self._prepared: dict[tuple[str, Attempt], Mapping[str, Any]] = {}
        # Being begun or looked for; and of those, what was told to stop meanwhile.
        self._starting: set[tuple[str, Attempt]] = set()
        self._unwanted: set[tuple[str, Attempt]] = set()

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        for name in work["environment"]:
            if name.startswith(("HEIWA_", "LD_")):
                return f"environment: {name} cannot be set"
        return scripts.problem(work["command"])

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        if (run, attempt) not in self._jobs and (run, attempt) not in self._starting:
            self._prepared[run, attempt] = work
            self._report(run, Submitted(attempt, str(Home(boot_id(), str(self._path(run, attempt))))))

    async def proceed(self, run: str, attempt: Attempt) -> None:
        work = self._prepared.pop((run, attempt), None)
        if work is not None:
            with self._coming((run, attempt)):
                await self._start((run, attempt), JobFolder(self._path(run, attempt)), work)

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
        if key in self._jobs:
            return
        if external is None:
            await self.submit(run, account, attempt, work)
            return
        self._prepared.pop(key, None)
        with self._coming(key):
            await self._adopt(key, Home.parse(external), work, wanted=wanted)

    async def _adopt(self, key: tuple[str, Attempt], home: Home, work: Mapping[str, Any], *, wanted: bool) -> None:
        run, attempt = key
        folder = JobFolder(Path(home.folder))
        if home.boot != boot_id() or folder.exit_code() is not None:
            self._report(run, _outcome(attempt, folder))
        elif not wanted and await asyncio.to_thread(folder.take, self._owner):
            self._report(run, Failed(attempt, _NOT_BEGUN))
        elif not folder.has_started:
            await self._start(key, folder, work)
        elif (known := await self._began(folder)) is not None:
            self._watch(key, _Job(folder, known, None))
        else:
            self._report(run, Failed(attempt, "nobody knows what became of its process", lost=True))

    async def _start(self, key: tuple[str, Attempt], folder: JobFolder, work: Mapping[str, Any]) -> None:
        """Begin it, unless somebody else is faster; then that is watched."""
        child = await asyncio.to_thread(self._begin, folder, *key, work)
        # It is ours until it is waited for, so that it has a start time even if it has ended.
        self._watch(key, _Job(folder, Known(child.pid, start_time(child.pid) or 0), child))

    @contextlib.contextmanager
    def _coming(self, key: tuple[str, Attempt]) -> Iterator[None]:
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

    def _watch(self, key: tuple[str, Attempt], job: _Job, *, unwanted: bool = False) -> None:
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

    def _ended(self, key: tuple[str, Attempt], descriptor: int) -> None:
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
