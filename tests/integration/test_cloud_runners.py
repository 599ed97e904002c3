"""The runners `batch` and `ecs` against the stand-ins of AWS, over the real SDK."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.aws import batch, ecs_tasks
from gateway.app.workflow_parts import cloud_jobs
from gateway.cli import check_runners
from gateway.drain.outlook import BAD, GOOD, WARN
from gateway.settings.model import Settings
from gateway.settings.workflows import WorkflowAccount, Workflows
from gateway.workflows import cloud_runner
from gateway.workflows.cloud_runner import CloudRunner
from gateway.workflows.job_access import JobAccess
from gateway.workflows.names import public_id
from gateway.workflows.records import AttemptFound
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Happening, Progress, Submitted
from loadtest.cloud.jobs_endpoint import JobsEndpoint

WITHIN_S = 20.0
RUN, ACCOUNT = "019aa0b2-7d1c-7000-8000-000000000000", "acme"
ATTEMPT = Attempt("load", 0, 1)
NAME = public_id(RUN, ATTEMPT)
ACCOUNTS = {
    ACCOUNT: WorkflowAccount(
        batch_queues="etl", batch_job_definitions="ok,bad,long", ecs_clusters="main", ecs_task_definitions="ok,bad,long"
    ),
    "evil": WorkflowAccount(batch_queues="own", batch_job_definitions="ok", ecs_task_definitions="ok"),
}


class Bench:
    """A cloud, and the runner of one service of it. `starters` are the jobs that have passed the start gate."""

    def __init__(self, kind: str, cloud: JobsEndpoint) -> None:
        self.kind = kind
        self.cloud = cloud
        self.reports: list[Happening] = []
        self.told = asyncio.Event()
        self.starter: str | None = None
        self.over = False
        self.runner = self.make()

    def make(self) -> CloudRunner:
        jobs = cloud_jobs(self.kind, Workflows(), ACCOUNTS)
        access = JobAccess("http://127.0.0.1:8082", b"key")
        return CloudRunner(jobs, self._report, access, self._find, poll_s=0.1)

    def _report(self, run: str, happening: Happening) -> None:
        assert run == RUN
        self.reports.append(happening)
        self.told.set()

    async def _find(self, public: str) -> AttemptFound | None:
        return AttemptFound(RUN, ACCOUNT, ATTEMPT, self.starter, wanted=True, over=self.over)

    def work(self, definition: str = "ok", **more: Any) -> dict[str, Any]:
        if self.kind == "batch":
            return {"queue": "etl", "job_definition": definition, "parameters": {}, **more}
        return {"cluster": "main", "task_definition": definition, "container": "", "command": [], **more}

    async def until(self, found: Callable[[], Any], what: str) -> Any:
        async with asyncio.timeout(WITHIN_S):
            while not (value := found()):
                self.told.clear()
                await asyncio.wait([asyncio.ensure_future(self.told.wait())], timeout=0.05)
        return value

    async def outcome(self) -> Happening:
        def ended() -> Happening | None:
            return next((one for one in self.reports if isinstance(one, Finished | Failed)), None)

        found: Happening = await self.until(ended, "no outcome")
        return found

    @property
    def external(self) -> str | None:
        return next((one.external for one in self.reports if isinstance(one, Submitted)), None)

    @property
    def jobs(self) -> list[Any]:
        return list(self.cloud.batch.jobs.values() if self.kind == "batch" else self.cloud.ecs.tasks.values())

    @property
    def submitting(self) -> str:
        return "batch:submitjob" if self.kind == "batch" else "ecs:RunTask"


@pytest.fixture(params=["batch", "ecs"])
async def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    cloud = JobsEndpoint()
    for queue in ("etl", "secret", "own"):
        cloud.batch.add_queue(queue)
    cloud.ecs.add_cluster("main")
    for name, command in {"ok": ["true"], "bad": ["sh", "-c", "exit 7"], "long": ["sleep", "60"]}.items():
        cloud.batch.add_definition(name, command)
        cloud.ecs.add_definition(name, command)
    await cloud.start()
    for name, value in cloud.environment.items():
        monkeypatch.setitem(os.environ, name, value)
    monkeypatch.setattr(cloud_runner, "PAUSE_S", 0.05)
    made = Bench(request.param, cloud)
    yield made
    await made.runner.close()
    await cloud.close()


batch_only = pytest.mark.parametrize("bench", ["batch"], indirect=True)


async def test_what_cannot_be_read_of_one_job_hides_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = {"batch": batch, "ecs": ecs_tasks}[bench.kind]
    read, name = adapter._state, {"batch": "jobId", "ecs": "taskArn"}[bench.kind]
    other = Attempt("other", 0, 1)
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("long"))
    odd = await bench.until(lambda: bench.external, "it was not submitted")

    def state(job: dict[str, Any]) -> Any:
        if job[name] == odd:
            raise ValueError("odd")
        return read(job)

    monkeypatch.setattr(adapter, "_state", state)
    await bench.runner.submit(RUN, ACCOUNT, other, bench.work())
    await bench.until(lambda: Finished(other, {}) in bench.reports, "the other was not seen")
    lost = Failed(ATTEMPT, "what became of it is not known: ValueError", lost=True)
    await bench.until(lambda: lost in bench.reports, "it stands for ever")


async def test_a_job_that_cannot_even_be_asked_for_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def submit(*_: Any) -> str:
        raise TypeError

    monkeypatch.setattr(bench.runner._jobs, "submit", submit)
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work())
    assert await bench.outcome() == Failed(ATTEMPT, "it could not be submitted: TypeError", lost=True)


async def test_a_job_runs_and_ends(bench: Bench) -> None:
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work())
    assert await bench.outcome() == Finished(ATTEMPT, {})
    assert isinstance(bench.reports[0], Submitted)
    (job,) = bench.jobs
    environment = job.environment
    assert environment["HEIWA_ATTEMPT"] == NAME
    assert environment["HEIWA_RUN"] == RUN
    assert len(environment["HEIWA_ATTEMPT_SECRET"]) == 64
    # The name is public, the secret is no part of it.
    assert environment["HEIWA_ATTEMPT_SECRET"] not in (job.name if bench.kind == "batch" else job.started_by)


async def test_how_a_job_failed_is_told(bench: Bench) -> None:
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("bad"))
    found = await bench.outcome()
    assert isinstance(found, Failed)
    assert found.error.startswith("exit code 7")
    assert (found.again, found.lost) == (True, False)


async def test_an_answer_that_is_lost_leads_to_no_second_job(bench: Bench) -> None:
    bench.cloud.fail_with[bench.submitting] = "cut"
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("long"))
    await bench.until(lambda: bench.jobs, "not submitted")
    bench.cloud.fail_with.clear()
    await bench.until(lambda: bench.external, "not found again")
    assert len(bench.jobs) == 1


async def test_submitted_and_not_saved_is_adopted(bench: Bench) -> None:
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("long"))
    first = await bench.until(lambda: bench.external, "not submitted")
    # The manager dies before that is stored; the next one knows the intent only.
    await bench.runner.close()
    bench.reports.clear()
    bench.runner = bench.make()
    await bench.runner.adopt(RUN, ACCOUNT, ATTEMPT, None, bench.work("long"))
    assert await bench.until(lambda: bench.external, "not adopted") == first
    assert len(bench.jobs) == 1
    await bench.runner.stop(RUN, ATTEMPT)
    assert isinstance(await bench.outcome(), Failed)


async def test_an_intent_that_was_not_submitted_is_submitted_once(bench: Bench) -> None:
    await bench.runner.adopt(RUN, ACCOUNT, ATTEMPT, None, bench.work())
    await bench.runner.adopt(RUN, ACCOUNT, ATTEMPT, None, bench.work())
    assert await bench.outcome() == Finished(ATTEMPT, {})
    assert len(bench.jobs) == 1


async def test_a_job_at_work_is_watched_by_the_next_manager_and_not_disturbed(bench: Bench) -> None:
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("long"))
    job = await bench.until(lambda: bench.external, "not submitted")
    await bench.until(lambda: any(isinstance(one, Progress) for one in bench.reports), "does not run")
    await bench.runner.close()
    bench.reports.clear()
    bench.runner = bench.make()
    await bench.runner.adopt(RUN, ACCOUNT, ATTEMPT, job, bench.work("long"))
    await bench.until(lambda: any(isinstance(one, Progress) for one in bench.reports), "not watched")
    assert len(bench.jobs) == 1
    assert not any(isinstance(one, Finished | Failed) for one in bench.reports)


async def test_cancel_reaches_a_job(bench: Bench) -> None:
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("long"))
    await bench.until(lambda: any(isinstance(one, Progress) for one in bench.reports), "does not run")
    await bench.runner.stop(RUN, ATTEMPT)
    found = await bench.outcome()
    assert isinstance(found, Failed)
    assert "not wanted any more" in found.error
    assert bench.jobs[0].status in ("FAILED", "STOPPED")


async def test_cancel_while_it_is_being_submitted_leaves_nothing_behind(bench: Bench) -> None:
    bench.cloud.fail_with[bench.submitting] = "cut"
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("long"))
    await bench.until(lambda: bench.jobs, "not submitted")
    await bench.runner.stop(RUN, ATTEMPT)
    bench.cloud.fail_with.clear()
    assert isinstance(await bench.outcome(), Failed)
    await bench.until(lambda: all(job.status in ("FAILED", "STOPPED") for job in bench.jobs), "a job runs on")
    assert len(bench.jobs) == 1 or bench.kind == "ecs"


async def test_a_service_that_throttles_is_asked_again_later(bench: Bench) -> None:
    code = "TooManyRequestsException" if bench.kind == "batch" else "ThrottlingException"
    bench.cloud.fail_with[bench.submitting] = code
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work())
    await bench.until(lambda: bench.cloud.requests[bench.submitting] >= 3, "not asked again")
    bench.cloud.fail_with.clear()
    assert await bench.outcome() == Finished(ATTEMPT, {})
    assert len(bench.jobs) == 1


async def test_a_full_environment_is_waited_for(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    if bench.kind == "batch":
        bench.cloud.batch.environments["etl"].max_vcpus = 0
    else:
        bench.cloud.ecs.clusters["main"].room = 0
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work())
    await bench.until(lambda: sum(bench.cloud.requests.values()) >= 4, "not asked again")
    assert not any(isinstance(one, Finished | Failed) for one in bench.reports)
    if bench.kind == "batch":
        # For ever, if nobody mends it: the log says once why.
        await bench.until(lambda: "workflow_job_waits" in caplog.messages, "not told")
        assert caplog.messages.count("workflow_job_waits") == 1
    bench.cloud.batch.environments["etl"].max_vcpus = 16
    bench.cloud.ecs.clusters["main"].room = 16
    assert await bench.outcome() == Finished(ATTEMPT, {})


async def test_what_the_role_does_not_allow_is_told_with_the_permission(bench: Bench) -> None:
    bench.cloud.fail_with[bench.submitting] = "AccessDeniedException"
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work())
    found = await bench.outcome()
    assert isinstance(found, Failed)
    assert ("batch:SubmitJob" if bench.kind == "batch" else "ecs:RunTask") in found.error


@pytest.mark.parametrize("how", ["named", "by an input", "that looks like an expression"])
async def test_nobody_uses_what_is_listed_for_another_account(bench: Bench, how: str) -> None:
    field, foreign = ("queue", "etl") if bench.kind == "batch" else ("cluster", "main")
    asked = {"named": foreign, "by an input": "${input.where}", "that looks like an expression": "${x}"}[how]
    said = bench.runner.problem("evil", bench.work(**{field: asked}))
    assert ("is not listed for the account 'evil'" in said) == (how == "named")
    # Whatever passed when the definition was put is looked at again with its value.
    value = foreign if how == "by an input" else asked
    await bench.runner.submit(RUN, "evil", ATTEMPT, bench.work(**{field: value}))
    found = await bench.outcome()
    assert isinstance(found, Failed)
    assert (found.again, "is not listed" in found.error) == (False, True)
    assert not bench.jobs
    assert not bench.cloud.requests


async def test_nothing_is_listed_for_an_account_without_a_list(bench: Bench) -> None:
    assert "is not listed" in bench.runner.problem("nobody", bench.work())
    assert bench.runner.problem(ACCOUNT, bench.work("ok:1")) == ""
    for definition in ("ok:1:2", "okay", "ok:", "ok:x", "OK", "x/ok", ""):
        assert "is not listed" in bench.runner.problem(ACCOUNT, bench.work(definition)), definition


async def test_what_a_job_said_itself_is_not_said_again(bench: Bench) -> None:
    bench.over = True
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("bad"))
    await bench.until(lambda: bench.jobs and bench.jobs[0].exit_code == 7, "did not run")
    await bench.until(lambda: not bench.runner._watched, "is watched on")
    assert [type(one) for one in bench.reports if not isinstance(one, Progress)] == [Submitted]


async def test_the_job_that_was_let_work_is_the_one_that_counts(bench: Bench) -> None:
    """Two submissions of one attempt: the one that is watched ends well and at once, for the other one works."""
    if bench.kind == "batch":
        bench.cloud.batch.answer("submitjob", {"jobName": NAME, "jobQueue": "etl", "jobDefinition": "bad"})
    else:
        asked = {"cluster": "main", "taskDefinition": "bad", "startedBy": NAME}
        bench.cloud.ecs.answer("RunTask", asked)
    other = bench.jobs[0].id if bench.kind == "batch" else bench.jobs[0].arn
    bench.starter = other
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("ok"))
    found = await bench.outcome()
    assert isinstance(found, Failed)
    assert found.error.startswith("exit code 7")


async def test_a_stop_reaches_the_job_that_was_let_work(bench: Bench) -> None:
    if bench.kind == "batch":
        bench.cloud.batch.answer("submitjob", {"jobName": NAME, "jobQueue": "etl", "jobDefinition": "long"})
    else:
        bench.cloud.ecs.answer("RunTask", {"cluster": "main", "taskDefinition": "long", "startedBy": NAME})
    bench.starter = bench.jobs[0].id if bench.kind == "batch" else bench.jobs[0].arn
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("long"))
    await bench.until(lambda: bench.external, "not submitted")
    await bench.runner.stop(RUN, ATTEMPT)
    assert isinstance(await bench.outcome(), Failed)


async def test_a_job_that_nobody_knows_is_lost(bench: Bench) -> None:
    job = "00000000-0000" if bench.kind == "batch" else "arn:aws:ecs:eu-west-1:123456789012:task/main/0"
    await bench.runner.adopt(RUN, ACCOUNT, ATTEMPT, job, bench.work())
    found = await bench.outcome()
    assert isinstance(found, Failed)
    assert found.lost


async def test_many_jobs_are_asked_for_a_hundred_at_a_time(bench: Bench) -> None:
    look = "batch:describejobs" if bench.kind == "batch" else "ecs:DescribeTasks"
    for number in range(250):
        attempt = Attempt("load", number, 1)
        job = "0-0" if bench.kind == "batch" else "arn:aws:ecs:eu-west-1:123456789012:task/main/0"
        await bench.runner.adopt(RUN, ACCOUNT, attempt, f"{job}{number}", bench.work())
    began_s = time.monotonic()
    await bench.until(lambda: len([one for one in bench.reports if isinstance(one, Failed)]) == 250, "not all lost")
    assert time.monotonic() - began_s < WITHIN_S
    assert bench.cloud.requests[look] == 9


@batch_only
async def test_a_job_that_is_not_listed_yet_meets_the_start_gate(bench: Bench) -> None:
    """ListJobs may show a job late: then it is submitted twice, and the start gate lets one of them work."""
    bench.cloud.batch.lag_s = 60
    bench.cloud.fail_with[bench.submitting] = "cut"
    await bench.runner.submit(RUN, ACCOUNT, ATTEMPT, bench.work("ok"))
    await bench.until(lambda: bench.jobs, "not submitted")
    bench.cloud.fail_with.clear()
    await bench.until(lambda: bench.external, "not submitted again")
    assert [job.name for job in bench.jobs] == [NAME] * len(bench.jobs)
    assert len(bench.jobs) >= 2


def test_the_settings_name_what_is_wrong(tmp_path: Path) -> None:
    from gateway.settings.load import load

    flags = ["workflow_accounts.acme.batch_queues=etl, other", "workflows.runners=batch,ecs"]
    found = load(None, {}, flags).settings
    assert found.workflow_accounts["acme"].batch_queues == "etl, other"


async def test_check_asks_for_the_queues_and_clusters_that_are_listed(bench: Bench) -> None:
    account = WorkflowAccount(batch_queues="etl, missing", ecs_clusters="main, missing")
    settings = Settings(workflows=Workflows(runners=bench.kind), workflow_accounts={"acme": account})
    found = await asyncio.to_thread(lambda: list(check_runners.results(settings)))
    said = {result.found.partition(":")[0]: result.verdict for result in found if result.name.startswith("runner")}
    assert said == {"etl" if bench.kind == "batch" else "main": GOOD, "missing": BAD}
    nothing = list(check_runners.results(Settings(workflows=Workflows(runners=bench.kind))))
    assert [result.verdict for result in nothing] == [WARN, GOOD]
