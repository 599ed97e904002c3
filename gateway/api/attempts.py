"""Routes for jobs: what they say of their own attempts. Who has an attempt's secret may speak for it, nobody else."""

from __future__ import annotations

import re
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from gateway.api.call import Call, answer, decode
from gateway.api.operation import Listener, Operation
from gateway.api.problem import Problem, unauthorized
from gateway.api.route import Route
from gateway.api.workflow_refusals import refusals
from gateway.errors import TooManyReportsError
from gateway.workflows.job_reports import JobReports

MAX_JOB_BODY_BYTES = 262_144
_PUBLIC = re.compile(r"[0-9a-f]{32}")
_SECRET = re.compile(r"[0-9a-f]{64}")
_OF_ONE = "/api/v1/attempts/{attempt}"
Job = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[!-~]+$(?!\n)")]


class StartBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`job` tells two jobs of one attempt apart: a job of AWS Batch, a task of ECS, or any other name of its own."""

    job: Job


class StartAnswer(Struct, frozen=True):
    """Whether this job is the one to work; `why` not. One that is not ends, and well: nothing is wrong with it."""

    start: bool
    why: str


class ReportBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How far it is, as far as it says. `job` has to be the one of `start`, where one was given there."""

    job: Job | None = None
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    message: Annotated[str, Meta(max_length=500)] | None = None


class ReportAnswer(Struct, frozen=True):
    """`wanted` false: the job may stop, nobody waits for what it says; `why` not."""

    wanted: bool
    why: str


class FinishBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How it ended: `ok` with a `value`, or an `error`. `again` false: it would fail the same way again.

    `job` has to be the one of `start`, where one was given there.
    """

    ok: bool
    job: Job | None = None
    value: dict[str, Any] | None = None
    error: Annotated[str, Meta(max_length=2_000)] | None = None
    again: bool = True


class FinishAnswer(Struct, frozen=True):
    """`taken` false: how it ended is known already, or another job works on it; `why` says which."""

    taken: bool
    why: str


async def start(call: Call) -> web.StreamResponse:
    """Ask to be the one job that works on the attempt."""
    public, jobs = await _asked(call)
    wish = decode(await call.body(), StartBody)
    with refusals():
        found = await jobs.start(public, wish.job)
    if found is None:
        raise _gone()
    return answer(StartAnswer(found.start, found.why))


async def report(call: Call) -> web.StreamResponse:
    """Say how far it is."""
    public, jobs = await _asked(call)
    wish = decode(await call.body(), ReportBody)
    try:
        with refusals():
            heard = await jobs.report(public, wish.job, wish.percent, wish.message)
    except TooManyReportsError as error:
        raise Problem(429, str(error), headers={"Retry-After": "1"}) from error
    if heard is None:
        raise _gone()
    return answer(ReportAnswer(heard.counts, heard.why), 202)


async def finish(call: Call) -> web.StreamResponse:
    """Say how it ended; the answer comes when that is stored."""
    public, jobs = await _asked(call)
    wish = decode(await call.body(), FinishBody)
    body = {"ok": wish.ok, "value": wish.value or {}, "error": wish.error, "again": wish.again}
    with refusals():
        heard = await jobs.end(public, wish.job, body)
    return answer(FinishAnswer(heard.counts, heard.why))


async def _asked(call: Call) -> tuple[str, JobReports]:
    """The attempt that the caller speaks for. Raises Problem 401 for all else: nobody learns which are there."""
    public = call.request.match_info["attempt"]
    scheme, _, secret = call.request.headers.get("Authorization", "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not _SECRET.fullmatch(secret) or not _PUBLIC.fullmatch(public):
        raise unauthorized("the attempt's secret is needed: Authorization: Bearer …", given=False)
    with refusals():
        jobs = await call.api.workflows.jobs()
    if not jobs.knows(public, secret):
        raise unauthorized("this is not the secret of the attempt", given=True)
    return public, jobs


def _gone() -> Problem:
    return Problem(404, "the attempt is not there any more")


def _operation(verb: str, name: str, summary: str, body: Any, found: Any, status: int, *errors: int) -> Operation:
    return Operation(
        "POST",
        f"{_OF_ONE}/{verb}",
        name,
        summary,
        None,
        Listener.JOBS,
        found,
        status=status,
        body=body,
        errors=(401, *errors),
    )


ROUTES = (
    Route(
        _operation(
            "start",
            "startAttempt",
            "Ask to be the one job that works on an attempt; the bearer token is the attempt's secret.",
            StartBody,
            StartAnswer,
            200,
            404,
            422,
            503,
        ),
        start,
    ),
    Route(
        _operation(
            "report",
            "reportAttempt",
            "Say how far an attempt is; the newest report of each second is kept.",
            ReportBody,
            ReportAnswer,
            202,
            404,
            422,
            429,
            503,
        ),
        report,
    ),
    Route(
        _operation("finish", "finishAttempt", "Say how an attempt ended.", FinishBody, FinishAnswer, 200, 422, 503),
        finish,
    ),
)
