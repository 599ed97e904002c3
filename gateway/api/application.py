"""The two aiohttp applications: what devices reach, and what operators reach."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import msgspec
from aiohttp import web

from gateway import __version__
from gateway.api import (
    asyncapi,
    attempts,
    commands,
    definitions,
    devices,
    drain,
    health,
    history,
    locations,
    openapi,
    workflows,
)
from gateway.api.call import MAX_QUERY_BYTES, Call, authorize
from gateway.api.context import Api
from gateway.api.operation import Listener
from gateway.api.problem import Problem, problems
from gateway.api.route import Handler, Route
from gateway.api.websocket import websocket
from gateway.identity.identity import Identity

# A polygon of 10,000 positions of 40 digits fits; see query.py.
MAX_OPERATIONS_BODY_BYTES = 1_048_576
_NOBODY = Identity("", "", frozenset(), 0.0)


def build_public(api: Api) -> web.Application:
    """What the public listener serves besides `/ws`."""
    application = _build(api, Listener.PUBLIC, api.max_message_bytes)
    application.router.add_route("*", "/ws", websocket)
    return application


def build_operations(api: Api) -> web.Application:
    """What the operations listener serves."""
    return _build(api, Listener.OPERATIONS, MAX_OPERATIONS_BODY_BYTES)


def build_jobs(api: Api) -> web.Application:
    """What jobs of workflows reach."""
    return _build(api, Listener.JOBS, attempts.MAX_JOB_BODY_BYTES)


def build_health(api: Api) -> web.Application:
    """What the operations listener of a process without the role `gateway` serves."""
    return _build(api, Listener.OPERATIONS, MAX_OPERATIONS_BODY_BYTES, health.ROUTES)


def all_routes() -> tuple[Route, ...]:
    """The tables of all parts, and the documents that are made from them."""
    parts = (
        *health.ROUTES,
        *locations.ROUTES,
        *devices.ROUTES,
        *history.ROUTES,
        *commands.ROUTES,
        *drain.ROUTES,
        *workflows.ROUTES,
        *definitions.ROUTES,
        *attempts.ROUTES,
    )
    documents = (openapi.DOCUMENT, asyncapi.DOCUMENT)
    listed = [*(route.operation for route in parts), *documents]
    return (
        *parts,
        Route(openapi.DOCUMENT, _serving(lambda: openapi.document(listed, __version__))),
        Route(asyncapi.DOCUMENT, _serving(lambda: asyncapi.document(__version__))),
    )


def _build(
    api: Api, listener: Listener, max_body_bytes: int, routes: tuple[Route, ...] | None = None
) -> web.Application:
    application = web.Application(middlewares=[problems, _limit_query], client_max_size=max_body_bytes)
    for route in all_routes() if routes is None else routes:
        if listener not in route.operation.listener:
            continue
        # An id may hold anything once it is percent-encoded; aiohttp's own pattern refuses braces.
        path = re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", route.operation.path)
        handler = _bind(api, route)
        if route.operation.method == "GET":
            application.router.add_get(path, handler, allow_head=True)
        else:
            application.router.add_route(route.operation.method, path, handler)
    return application


def _bind(api: Api, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    scope = route.operation.scope

    async def handle(request: web.Request) -> web.StreamResponse:
        identity = authorize(api, request, scope) if scope is not None else _NOBODY
        return await route.handler(Call(api, request, identity))

    return handle


@web.middleware
async def _limit_query(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if len(request.rel_url.raw_query_string) > MAX_QUERY_BYTES:
        raise Problem(414, f"the query is longer than {MAX_QUERY_BYTES} bytes")
    return await handler(request)


def _serving(document: Callable[[], dict[str, Any]]) -> Handler:
    """A handler of a document that is made when it is first asked for."""
    made = cache(lambda: msgspec.json.encode(document()))

    async def serve(call: Call) -> web.StreamResponse:
        return web.Response(body=made(), content_type="application/json")

    return serve
