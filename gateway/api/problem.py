"""Errors of the HTTP API: RFC 9457 problems, every one, and the headers that every answer carries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import (
    HeiwaError,
    IndexBusyError,
    KeysUnknownError,
    QueryError,
    QueryTooWideError,
    StoreError,
    TokenError,
)
from gateway.telemetry.lines import redact
from gateway.telemetry.log import Log
from gateway.wire.status import phrase

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
REALM = 'Bearer realm="heiwa"'
# Of every answer that does not set its own: a page for people needs another Content-Security-Policy.
HEADERS = {
    "Server": "heiwa",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_log = Log("api")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(HeiwaError):
    """An answer that is not what was asked for. `extra` are further members of the problem (RFC 9457, 3.2)."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self) -> web.Response:
        """The answer with its body."""
        title = phrase(self.status)
        body = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail, **self.extra}
        return web.Response(
            status=self.status, body=msgspec.json.encode(body), content_type=MEDIA_TYPE, headers=self.headers
        )


def bad_field(field: str, problem: str, status: int = 400) -> Problem:
    """The request is wrong in one place; `field` is a parameter's name or a JSON path."""
    # A value that is quoted may be a token in the wrong place.
    problem = redact(problem)
    return Problem(status, f"{field}: {problem}", errors=[{"field": field, "problem": problem}])


def unauthorized(problem: str, *, given: bool) -> Problem:
    """No token, or (`given`) one that does not hold; the challenge is that of RFC 6750, 3."""
    # Quotes and control characters would end the quoted string.
    told = "".join(letter for letter in problem if letter.isascii() and letter.isprintable() and letter not in '"\\')
    challenge = f'{REALM}, error="invalid_token", error_description="{told}"' if given else REALM
    return Problem(401, problem, headers={"WWW-Authenticate": challenge})


def forbidden(scope: str) -> Problem:
    """The token holds, but not for this."""
    return Problem(
        403,
        f"the token lacks the scope {scope}",
        headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{scope}"'},
        scope=scope,
    )


def unavailable(detail: str, /, *, retry_after_s: int = RETRY_AFTER_S, **extra: Any) -> Problem:
    """Not now; the same request may be sent again."""
    return Problem(503, detail, headers={"Retry-After": str(retry_after_s)}, **extra)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into a problem; of an unexpected error nothing is told, it is logged."""
    try:
        response = await handler(request)
    except asyncio.CancelledError:
        raise
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = _of_aiohttp(request, error).response()
    except Exception as error:
        response = problem_of(request, error).response()
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def problem_of(request: web.Request, error: Exception) -> Problem:
    """What the peer is told about `error`; a failure of ours is logged."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QueryError):
        return bad_field(error.field, error.problem, status=422 if isinstance(error, QueryTooWideError) else 400)
    if isinstance(error, KeysUnknownError):
        return unavailable(str(error))
    if isinstance(error, TokenError):
        return unauthorized(str(error), given=True)
    if isinstance(error, IndexBusyError):
        return unavailable("the index takes no searches now; try again", retry_after_s=error.retry_after_s)
    if isinstance(error, web.RequestPayloadError):
        return Problem(400, "the body could not be read: broken off or wrongly encoded")
    if isinstance(error, ConnectionError):
        return Problem(400, "the connection ended before the request did")
    if getattr(request.protocol, "may_log", _always)():
        # It happens to every request while a store is away, and its words say all of it.
        unforeseen = None if isinstance(error, StoreError) else error
        route = _route(request)
        _log.error("request_failed", exc_info=unforeseen, method=request.method, route=route, error=str(error))
    if isinstance(error, StoreError):
        return unavailable("a store does not answer; try again")
    return Problem(500, "an unexpected error; it has been logged")


def _of_aiohttp(request: web.Request, error: web.HTTPException) -> Problem:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(405, f"{request.method} is not possible here; allowed are {allowed}", headers={"Allow": allowed})
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(413, f"the body is larger than {request.client_max_size} bytes")
    if error.status == 404:
        return Problem(404, "there is nothing at this path")
    return Problem(error.status, error.reason)


def _always() -> bool:
    return True


def _route(request: web.Request) -> str:
    """The route's template: a path itself may hold a device's id."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"
