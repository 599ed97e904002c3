"""Runs of workflows: begin, look at, watch, cancel, resume."""

from __future__ import annotations

import re

from aiohttp import web

from gateway.api.call import Call, answer, decode, idempotency_key
from gateway.api.operation import Listener, Operation, Parameter
from gateway.api.parameters import CURSOR, IDEMPOTENCY_KEY, LIMIT
from gateway.api.problem import Problem
from gateway.api.route import Route
from gateway.api.workflow_records import (
    CancelBody,
    EventsAnswer,
    RunBody,
    RunsPage,
    event_answer,
)
from gateway.api.workflow_refusals import known, refusals, whole
from gateway.errors import QueryError
from gateway.locations.query import DEFAULT_LIMIT, MAX_LIMIT
from gateway.workflows.shown import RunAnswer, run_answer, run_in_list
from gateway.workflows.states import RunStatus

MAX_OFFSET = 2**53
MAX_WAIT_S = 25
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def create(call: Call) -> web.StreamResponse:
    """Begin a run; the same idempotency key gives the same run."""
    wish = decode(await call.body(), RunBody)
    key = idempotency_key(call)
    with refusals():
        service = await call.api.workflows.service()
        account = call.identity.account
        created = await service.create(account, wish.definition, wish.version, wish.input, key)
        found = await service.run(account, created.run)
    return answer(run_answer(found), 201)


async def page(call: Call) -> web.StreamResponse:
    """Runs of the account, the newest first."""
    query = known(call, ("status", "limit", "cursor"))
    limit = whole(query, "limit", 1, MAX_LIMIT, DEFAULT_LIMIT)
    status, before = query.get("status"), query.get("cursor") or None
    if status is not None and status not in list(RunStatus):
        raise QueryError("status", f"must be one of {', '.join(RunStatus)}")
    if before is not None and not _ID.fullmatch(before):
        raise QueryError("cursor", "is not one that this list returned; start again without it")
    with refusals():
        service = await call.api.workflows.service()
        found = await service.runs(call.identity.account, status, before, limit + 1)
    shown = [run_in_list(one) for one in found[:limit]]
    return answer(RunsPage(shown, shown[-1].id if len(found) > limit else None))


async def one(call: Call) -> web.StreamResponse:
    """A whole run."""
    run = _run(call)
    with refusals():
        service = await call.api.workflows.service()
        return answer(run_answer(await service.run(call.identity.account, run)))


async def cancel(call: Call) -> web.StreamResponse:
    """Ask for its end."""
    run = _run(call)
    payload = await call.body()
    wish = decode(payload, CancelBody) if payload.strip() else CancelBody()
    with refusals():
        service = await call.api.workflows.service()
        return answer(run_answer(await service.cancel(call.identity.account, run, wish.why)), 202)


async def resume(call: Call) -> web.StreamResponse:
    """Ask for what did not succeed to be done again."""
    run = _run(call)
    with refusals():
        service = await call.api.workflows.service()
        return answer(run_answer(await service.resume(call.identity.account, run)), 202)


async def events(call: Call) -> web.StreamResponse:
    """Its history behind an offset."""
    query = known(call, ("after", "limit", "wait_s"))
    after = whole(query, "after", 0, MAX_OFFSET, 0)
    limit = whole(query, "limit", 1, MAX_LIMIT, DEFAULT_LIMIT)
    wait_s = whole(query, "wait_s", 0, MAX_WAIT_S, 0)
    run = _run(call)
    with refusals():
        service = await call.api.workflows.service()
        found, over = await service.events(call.identity.account, run, after, limit, wait_s)
    shown = [event_answer(record) for record in found]
    return answer(EventsAnswer(shown, shown[-1].offset if shown else after, over))


def _run(call: Call) -> str:
    run = call.request.match_info["run"]
    if not _ID.fullmatch(run):
        raise Problem(404, "there is no such run")
    return run


_STATUS = Parameter("status", "Only runs with this status.", {"type": "string", "enum": list(RunStatus)})
_AFTER = Parameter(
    "after", "Only events with a larger offset.", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0}
)
_WAIT = Parameter(
    "wait_s",
    "Wait for the first event for so long at most.",
    {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0},
)
_OF_ONE = "/api/v1/workflows/{run}"

ROUTES = (
    Route(
        Operation(
            "POST",
            "/api/v1/workflows",
            "createRun",
            "Begin a run of a definition.",
            "workflow:write",
            Listener.OPERATIONS,
            RunAnswer,
            status=201,
            parameters=(IDEMPOTENCY_KEY,),
            body=RunBody,
            errors=(404, 422, 429, 503),
        ),
        create,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/workflows",
            "listRuns",
            "Runs, the newest first; nested ones are left out.",
            "workflow:read",
            Listener.OPERATIONS,
            RunsPage,
            parameters=(_STATUS, LIMIT, CURSOR),
            errors=(503,),
        ),
        page,
    ),
    Route(
        Operation(
            "GET",
            _OF_ONE,
            "getRun",
            "A whole run: its nodes, items and iterations.",
            "workflow:read",
            Listener.OPERATIONS,
            RunAnswer,
            errors=(404, 503),
        ),
        one,
    ),
    Route(
        Operation(
            "GET",
            f"{_OF_ONE}/events",
            "getRunEvents",
            "The history of a run behind an offset.",
            "workflow:read",
            Listener.OPERATIONS,
            EventsAnswer,
            parameters=(_AFTER, LIMIT, _WAIT),
            errors=(404, 503),
        ),
        events,
    ),
    Route(
        Operation(
            "POST",
            f"{_OF_ONE}/cancel",
            "cancelRun",
            "Ask for the end of a run: nothing new begins, what is at work is told to stop.",
            "workflow:write",
            Listener.OPERATIONS,
            RunAnswer,
            status=202,
            body=CancelBody,
            body_required=False,
            errors=(404, 409, 422, 503),
        ),
        cancel,
    ),
    Route(
        Operation(
            "POST",
            f"{_OF_ONE}/resume",
            "resumeRun",
            "Do again what failed or was cancelled in a run, and nothing that succeeded.",
            "workflow:write",
            Listener.OPERATIONS,
            RunAnswer,
            status=202,
            errors=(404, 409, 503),
        ),
        resume,
    ),
)
