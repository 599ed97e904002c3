"""The drain of this process: where it stands, what it would do, beginning it and taking it back."""

from __future__ import annotations

import asyncio
import math
import re

from aiohttp import web

from gateway.api.call import Call, answer, decode
from gateway.api.operation import Listener, Operation, Parameter
from gateway.api.problem import Problem
from gateway.api.records import DrainBody
from gateway.api.route import Route
from gateway.drain import polling
from gateway.drain.leaving import Origin
from gateway.drain.plan import Plan
from gateway.drain.receipt import picture
from gateway.drain.status import DrainStatus, status_of
from gateway.drain.strategy_plan import BALANCER, FORM, PATTERN, StrategyPlan, by_age, parse
from gateway.drain.strategy_plan import play as foresee
from gateway.errors import IllegalTransitionError, QueryError

# A plan is played close by close: bounded, and in a thread, so that asking for one does not hold up the loop.
MAX_TASKS = 64
MAX_WINDOW_S = 86_400
MAX_CONNECTIONS = 1_000_000
_STRATEGY = "linear:10%:6m:10m"
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_MAX_CLOSES = 500_000
_MAX_PLAYED_S = 40_000


async def status(call: Call) -> web.StreamResponse:
    """Where this process stands."""
    return answer(_status(call))


async def plan(call: Call) -> web.StreamResponse:
    """What a drain would do now."""
    query = _known(call, ("window_s", "tasks"))
    drainer = call.api.drainer
    window_s = _number(query, "window_s", 1, MAX_WINDOW_S) if "window_s" in query else drainer.window_s()
    tasks = _whole(query, "tasks", 1, MAX_TASKS) if "tasks" in query else 1
    if tasks * drainer.remaining > _MAX_CLOSES:
        maximum = max(1, _MAX_CLOSES // drainer.remaining)
        raise QueryError("tasks", f"too large a plan: at most {maximum} tasks of {drainer.remaining:,} connections")
    if tasks * window_s > _MAX_PLAYED_S:
        raise QueryError("window_s", f"too large a plan: at most {_MAX_PLAYED_S // tasks:,} s with {tasks} tasks")
    return answer(await asyncio.to_thread(drainer.planner(window_s, tasks)))


async def strategy_plan(call: Call) -> web.StreamResponse:
    """What a deployment by weights would do now."""
    query = _known(call, ("strategy", "tasks", "connections"))
    drainer = call.api.drainer
    tasks = _whole(query, "tasks", 1, MAX_TASKS) if "tasks" in query else 1
    connections = _whole(query, "connections", 1, MAX_CONNECTIONS) if "connections" in query else drainer.remaining
    text, ages_s = query.get("strategy", _STRATEGY), drainer.ages_s
    if text == BALANCER:
        if ages_s is None:
            raise QueryError("strategy", "without connections.max_age_h nobody leaves the old load balancer by itself")
        return answer(by_age(connections, tasks, drainer.settings.receivers or tasks, ages_s))
    if re.fullmatch(PATTERN, text) is None:
        raise QueryError("strategy", f"{text[:60]!r} is not one; write {FORM}")
    strategy, steps = parse(text)
    # Both colours ask about the deployment.
    lag_s = polling.deployment_period_s(2 * tasks)
    receivers, hops = drainer.settings.receivers or tasks, drainer.settings.shift_hops
    age_s = math.inf if ages_s is None else sum(ages_s) / 2
    return answer(await asyncio.to_thread(foresee, strategy, steps, connections, tasks, receivers, hops, lag_s, age_s))


async def receipt_picture(call: Call) -> web.StreamResponse:
    """The last receipt as SVG."""
    last = call.api.drainer.last
    if last is None:
        raise Problem(404, "this process has not drained yet")
    return web.Response(body=picture(last).encode(), content_type="image/svg+xml")


async def start(call: Call) -> web.StreamResponse:
    """Begin a drain; 409 where one is under way."""
    payload = await call.body()
    wish = decode(payload, DrainBody) if payload.strip() else DrainBody()
    try:
        call.api.drainer.order(Origin.API, wish.window_s)
    except IllegalTransitionError as error:
        raise Problem(409, f"no drain can begin: {error}") from error
    return answer(_status(call), 202)


async def cancel(call: Call) -> web.StreamResponse:
    """Take it back; 409 where there is none."""
    try:
        call.api.drainer.cancel()
    except IllegalTransitionError as error:
        raise Problem(409, f"there is no drain to cancel: {error}") from error
    return answer(_status(call))


def _status(call: Call) -> DrainStatus:
    return status_of(call.api.drainer, call.api.watch)


def _known(call: Call, names: tuple[str, ...]) -> dict[str, str]:
    query = call.query()
    for name in query:
        if name not in names:
            raise QueryError(name, f"is not a parameter; known are {', '.join(names)}")
    return query


def _whole(query: dict[str, str], name: str, minimum: int, maximum: int) -> int:
    text = query[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and minimum <= int(text) <= maximum):
        raise QueryError(name, f"must be a whole number from {minimum} to {maximum}")
    return int(text)


def _number(query: dict[str, str], name: str, minimum: float, maximum: float) -> float:
    # float() also reads 1_0, inf and the digits of other scripts.
    if not (_DECIMAL.fullmatch(query[name]) and minimum <= float(query[name]) <= maximum):
        raise QueryError(name, f"must be a number from {minimum:g} to {maximum:g}")
    return float(query[name])


ROUTES = (
    Route(
        Operation(
            "GET",
            "/api/v1/drain",
            "getDrain",
            "Where this process stands, and its last receipt.",
            "admin",
            Listener.OPERATIONS,
            DrainStatus,
        ),
        status,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/drain/plan",
            "planDrain",
            "The curve that a drain would take now.",
            "admin",
            Listener.OPERATIONS,
            Plan,
            parameters=(
                Parameter(
                    "window_s",
                    "Over how long; as the settings say without it.",
                    {"type": "number", "minimum": 1, "maximum": MAX_WINDOW_S},
                ),
                Parameter(
                    "tasks",
                    "How many processes like this one drain together.",
                    {"type": "integer", "minimum": 1, "maximum": MAX_TASKS, "default": 1},
                ),
            ),
        ),
        plan,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/drain/strategy",
            "planStrategy",
            "What a deployment by weights would do to the connections, step by step.",
            "admin",
            Listener.OPERATIONS,
            StrategyPlan,
            parameters=(
                Parameter(
                    "strategy",
                    FORM,
                    {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 60,
                        "pattern": f"^({PATTERN})$",
                        "default": _STRATEGY,
                    },
                ),
                Parameter(
                    "tasks",
                    "How many processes like this one there are.",
                    {"type": "integer", "minimum": 1, "maximum": MAX_TASKS, "default": 1},
                ),
                Parameter(
                    "connections",
                    "How many websockets each of them holds; those of this one without it.",
                    {"type": "integer", "minimum": 1, "maximum": MAX_CONNECTIONS},
                ),
            ),
            errors=(422,),
        ),
        strategy_plan,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/drain/receipt.svg",
            "getReceiptPicture",
            "The last drain as a picture.",
            "admin",
            Listener.OPERATIONS,
            "image/svg+xml",
            errors=(404,),
        ),
        receipt_picture,
    ),
    Route(
        Operation(
            "POST",
            "/api/v1/drain",
            "startDrain",
            "Send all websockets away, evenly.",
            "admin",
            Listener.OPERATIONS,
            DrainStatus,
            status=202,
            body=DrainBody,
            body_required=False,
            errors=(409, 422),
        ),
        start,
    ),
    Route(
        Operation(
            "DELETE",
            "/api/v1/drain",
            "cancelDrain",
            "Let the rest stay.",
            "admin",
            Listener.OPERATIONS,
            DrainStatus,
            errors=(409,),
        ),
        cancel,
    ),
)
