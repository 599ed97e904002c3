"""The runner `process`, without a manager: what it begins, and what it must not."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.process.folder import JobFolder
from gateway.adapters.process.runner import ProcessRunner
from gateway.workflows.job_access import JobAccess
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Happening, Submitted

WITHIN_S = 30
ATTEMPT = Attempt("a", 0, 1)


class Bench:
    """`runner` and what it has told."""

    def __init__(self, folder: Path, maximum: int = 200, user: str = "") -> None:
        self.told: list[Happening] = []
        self._more = asyncio.Event()
        self.runner = ProcessRunner(folder, self._hear, JobAccess("", b"key"), user, maximum=maximum)

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


async def ended(folder: Path, script: str) -> Happening:
    """How a job of this script ended."""
    bench = Bench(folder)
    await bench.runner.submit("run", "acme", ATTEMPT, {"command": ["sh", "-c", script], "environment": {}})
    await bench.runner.proceed("run", ATTEMPT)
    found = await bench.end()
    await bench.runner.close()
    return found


async def test_a_job_cannot_pass_another_users_process_off_as_its_own(tmp_path: Path) -> None:
    # Its end was waited for, and its group killed when the run was cancelled.
    script = 'read -r stat </proc/1/stat; rm pid; echo "1 ${stat##*)}" >pid; echo {}'
    assert await ended(tmp_path / "jobs", script) == Finished(ATTEMPT, {})


@pytest.mark.parametrize("pid", ["0", "99999999999999999999", "4194305", "²", "x", "-1"])
def test_what_a_job_writes_for_its_number_is_looked_at(tmp_path: Path, pid: str) -> None:
    folder = JobFolder(tmp_path)
    for text in (f"{pid} {'7 ' * 40}", f"{2**22} {'x ' * 40}", f"{2**22} {'² ' * 40}", f"{2**22} {f'{10**20} ' * 40}"):
        (tmp_path / "pid").write_text(text)
        assert folder.known(os.geteuid()) is None
    (tmp_path / "pid").write_text(f"{2**22} {'7 ' * 40}")
    assert folder.known(os.geteuid()) == (2**22, 7)


@pytest.mark.parametrize("code", ["²", "-1", "x", "9" * 5000])
async def test_a_job_that_writes_nonsense_for_its_exit_code_has_an_end(tmp_path: Path, code: str) -> None:
    found = await ended(tmp_path / "jobs", f"echo {code} >exit; kill -9 0")
    assert isinstance(found, Failed)
    assert found.lost


async def test_a_file_with_another_name_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"key": "secret"}')
    (tmp_path / "output").hardlink_to(tmp_path / "secret")
    assert JobFolder(tmp_path).result() == {}


@pytest.mark.parametrize("end", ["\u2028", "\u0085"])
async def test_only_a_line_feed_ends_the_line_of_a_result(tmp_path: Path, end: str) -> None:
    text = json.dumps({"said": f"a{end}b"}, ensure_ascii=False)
    assert await ended(tmp_path / "jobs", f"echo first; echo '{text}'") == Finished(ATTEMPT, {"said": f"a{end}b"})


async def test_a_result_that_was_cut_is_told(tmp_path: Path) -> None:
    long = "head -c 70000 /dev/zero | tr '\\0' x"
    found = await ended(tmp_path / "jobs", f"echo first; printf '{{\"a\": \"'; {long}; echo '\"}}'")
    assert isinstance(found, Failed)
    assert not found.again
    assert "longer than 65,536 bytes" in found.error
    # Without a result, much may be written.
    assert await ended(tmp_path / "others", f"{long}; echo; echo done") == Finished(ATTEMPT, {})


async def test_what_is_told_to_stop_while_it_is_begun_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "jobs")
    await bench.runner.submit("run", "acme", ATTEMPT, {"command": ["sleep", "60"], "environment": {}})
    beginning = asyncio.create_task(bench.runner.proceed("run", ATTEMPT))
    await asyncio.sleep(0)
    await bench.runner.stop("run", ATTEMPT)
    await beginning
    assert isinstance(await bench.end(), Failed)
    assert bench.runner._unwanted == set()
    await bench.runner.close()


async def test_what_has_ended_before_it_is_told_to_stop_leaves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "jobs")
    await bench.runner.submit("run", "acme", ATTEMPT, {"command": ["echo", "{}"], "environment": {}})
    await bench.runner.proceed("run", ATTEMPT)
    assert isinstance(await bench.end(), Finished)
    await bench.runner.stop("run", ATTEMPT)
    assert bench.runner._unwanted == set()
    await bench.runner.close()


class Queue(Bench):
    """Attempts that end when a file of their name is there; each writes into a ledger when it begins."""

    def __init__(self, folder: Path, maximum: int) -> None:
        # As ourselves, so that jobs can reach the ledger.
        super().__init__(folder / "jobs", maximum, pwd.getpwuid(os.geteuid()).pw_name)
        self.ledger = folder / "ledger"
        self._folder = folder

    def work(self, name: str) -> dict[str, Any]:
        script = f"echo {name} >> {self.ledger}; while [ ! -e {self._folder}/{name} ]; do sleep 0.02; done"
        return {"command": ["sh", "-c", script], "environment": {}}

    def attempt(self, name: str) -> Attempt:
        return ATTEMPT._replace(path=name)

    async def begin(self, *names: str) -> None:
        """The first letter is the account."""
        for name in names:
            await self.runner.submit("run", name[0], self.attempt(name), self.work(name))
            await self.runner.proceed("run", self.attempt(name))

    async def began(self, *names: str) -> None:
        """Wait until just these have begun."""
        async with asyncio.timeout(WITHIN_S):
            while sorted(self.lines()) != sorted(names):  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)

    def lines(self) -> list[str]:
        return self.ledger.read_text().split() if self.ledger.exists() else []

    async def ends(self, name: str) -> Happening:
        (self._folder / name).touch()
        return await self.outcome(name)

    async def outcome(self, name: str) -> Happening:
        async with asyncio.timeout(WITHIN_S):
            while True:
                ended = [one for one in self.told if isinstance(one, Finished | Failed)]
                if found := [one for one in ended if one.attempt == self.attempt(name)]:
                    return found[0]
                await asyncio.sleep(0.01)


async def test_more_processes_than_may_be_wait_and_accounts_take_turns(tmp_path: Path) -> None:
    queue = Queue(tmp_path, 2)
    await queue.begin("a0", "a1", "a2", "a3", "b0")
    await queue.began("a0", "a1")
    assert isinstance(await queue.ends("a1"), Finished)
    await queue.began("a0", "a1", "a2")
    assert isinstance(await queue.ends("a0"), Finished)
    await queue.began("a0", "a1", "a2", "b0")
    for name in ("a2", "b0", "a3"):
        assert isinstance(await queue.ends(name), Finished)
    assert len(queue.lines()) == 5
    await queue.runner.close()


async def test_what_is_told_to_stop_in_line_never_begins(tmp_path: Path) -> None:
    queue = Queue(tmp_path, 1)
    await queue.begin("a0", "a1", "a2")
    await queue.began("a0")
    await queue.runner.stop("run", queue.attempt("a1"))
    refused = await queue.outcome("a1")
    assert isinstance(refused, Failed)
    assert "before it began" in refused.error
    for name in ("a0", "a2"):
        assert isinstance(await queue.ends(name), Finished)
    assert queue.lines() == ["a0", "a2"]
    await queue.runner.close()


async def test_those_in_line_are_adopted_and_wait_again(tmp_path: Path) -> None:
    first, second = Queue(tmp_path, 1), Queue(tmp_path, 1)
    await first.begin("a0", "a1", "a2")
    await first.began("a0")
    jobs = dict(first.runner._jobs)
    await first.runner.close()
    for one in first.told:
        assert isinstance(one, Submitted)
        name = one.attempt.path
        await second.runner.adopt("run", "a", one.attempt, one.external, second.work(name))
        await second.runner.adopt("run", "a", one.attempt, one.external, second.work(name))
    await second.began("a0")
    for name, began in (("a0", ["a0", "a1"]), ("a1", ["a0", "a1", "a2"]), ("a2", ["a0", "a1", "a2"])):
        assert isinstance(await second.ends(name), Finished)
        await second.began(*began)
    for job in jobs.values():
        assert job.child is not None
        job.child.wait(WITHIN_S)
    await second.runner.close()


async def test_a_process_that_cannot_be_begun_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(tmp_path, 1)
    await queue.begin("a0", "a1")
    await queue.began("a0")
    monkeypatch.setattr(JobFolder, "make", lambda *_: 1 / 0)
    await queue.ends("a0")
    failed = await queue.outcome("a1")
    assert isinstance(failed, Failed)
    assert "could not be begun" in failed.error
    monkeypatch.undo()
    await queue.begin("a2")
    assert isinstance(await queue.ends("a2"), Finished)
    await queue.runner.close()
