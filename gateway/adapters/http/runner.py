"""The runner `http`: a request to a service elsewhere; what it answers is the result.

Each attempt has its own idempotency key, and the request is repeated under it after a crash: a service that keeps keys
does the work once. 202 with a Location is asked again until the answer is another one. No redirect is followed.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from yarl import URL

from gateway.adapters.http.guard import ForbiddenAddressError, GuardedResolver, Networks, check_literal
from gateway.decoding import object_in
from gateway.gate import Gate
from gateway.telemetry.log import Log
from gateway.workflows.job_access import JobAccess
from gateway.workflows.names import public_id
from gateway.workflows.ports import Report
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Happening, Submitted

CONNECT_S = 10.0
READ_S = 300.0
MAX_BODY_BYTES = 1_048_576
MAX_SAID_CHARS = 500
POLL_S = 5.0
MIN_POLL_S = 0.2
MAX_POLL_S = 300.0
# Requests at a time: of all accounts, of one, and of one to one server. A service may take READ_S for each.
IN_ALL, OF_ONE, TO_ONE = 64, 32, 16
# The connection's and ours; whoever sets them could speak in another's name.
_RESERVED = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "idempotency-key",
        "te",
        "heiwa-callback",
        "heiwa-callback-authorization",
    }
)
# Where an attempt is found whose service has promised to call back.
_CALLBACK = "callback"
# These statuses say that the same request may succeed later (RFC 9110, 15.5 and 15.6; RFC 8470, RFC 6585).
_LATER = frozenset({408, 425, 429})

_log = Log("workflows")


class HttpRunner:
    """See `gateway.workflows.ports.NodeRunner`. `allowed` are networks besides the public ones."""

    name = "http"
    for_admins = False
    deduplicates = False
    movable = False

    def __init__(self, report: Report, allowed: Networks, access: JobAccess) -> None:
        self._report = report
        self._access = access
        self._allowed = allowed
        self._requests: dict[tuple[str, Attempt], asyncio.Task[None]] = {}
        self._gate = Gate(IN_ALL, OF_ONE)
        # By account and server: who waits for one server keeps no place from others.
        self._servers = Gate(sys.maxsize, TO_ONE)
        connector = aiohttp.TCPConnector(resolver=GuardedResolver(allowed), use_dns_cache=False, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        if not work["url"].startswith(("http://", "https://", "${")):
            return "url: it has to begin with http:// or https://"
        reserved = [name for name in work["headers"] if name.lower() in _RESERVED]
        if reserved:
            return f"headers: {reserved[0]} cannot be set"
        if work["callback"] and not self._access.is_on:
            return "callback: services cannot call back here: listen.jobs is not set"
        return ""

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        self._begin(run, account, attempt, work, None)

    async def proceed(self, run: str, attempt: Attempt) -> None:
        """It has begun."""

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
        # One that is not wanted any more ends with the stop that follows.
        if wanted and external != _CALLBACK:
            self._begin(run, account, attempt, work, external)

    def _begin(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any], external: str | None) -> None:
        key = run, attempt
        if key not in self._requests:
            task = asyncio.create_task(
                self._carry_out(run, account, attempt, work, external), name=f"workflow request {run}"
            )
            self._requests[key] = task
            task.add_done_callback(lambda _: self._requests.pop(key, None))

    async def stop(self, run: str, attempt: Attempt) -> None:
        task = self._requests.pop((run, attempt), None)
        if task is not None:
            task.cancel()
        # Without a task it waits for a callback, or has ended; then this comes too late to count.
        self._report(run, Failed(attempt, "nobody waits for its answer any more", lost=True))

    async def forget(self, attempts: Sequence[str]) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        tasks = list(self._requests.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    async def _carry_out(
        self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any], external: str | None
    ) -> None:
        try:
            found = await self._ask(run, account, attempt, work, external)
            self._report(run, Submitted(attempt, _CALLBACK) if found is None else found)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._report(run, Failed(attempt, f"the request failed: {_said(error)[:MAX_SAID_CHARS]}"))
        except Exception as error:
            # Without a word the attempt would stand for ever.
            _log.error("workflow_request_failed", exc_info=error, run=run, node=attempt.path)
            self._report(run, Failed(attempt, f"the request could not be made: {type(error).__name__}", again=False))

    async def _ask(
        self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any], external: str | None
    ) -> Happening | None:
        """The request, or where an earlier one said to ask again; then as long as it says so. None: the service will
        call back."""
        name = public_id(run, attempt)
        headers = {**work["headers"], "Idempotency-Key": name}
        if work.get("callback"):
            headers |= self._access.callback(name)
        method, url, body = work["method"], URL(work["url"]), work["body"]
        if external is not None:
            method, url, body = "GET", URL(external), None
        while True:
            async with self._servers.place(f"{account} {url.host}"), self._gate.place(account):
                status, answered, payload = await self._send(method, url, headers, body)
            if status != 202:
                return _outcome(attempt, status, payload)
            location = answered.get("Location")
            if location is None and work.get("callback"):
                return None
            if location is None:
                return _finished(attempt, payload)
            following = url.join(URL(location))
            if following.origin() != url.origin():
                # Its headers may hold a secret for this service only.
                return Failed(attempt, f"202 with a Location elsewhere: {following.origin()}", again=False)
            method, url, body = "GET", following, None
            self._report(run, Submitted(attempt, str(url)))
            await asyncio.sleep(_pause_s(answered.get("Retry-After")))

    async def _send(self, method: str, url: URL, headers: Mapping[str, str], body: Any) -> tuple[int, Any, bytes]:
        if url.scheme not in ("http", "https") or url.user is not None:
            raise ValueError("the address has to be http:// or https://, without a user")
        check_literal(url.host, self._allowed)
        data = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        async with self._session.request(
            method, url, headers={**kind, **headers}, allow_redirects=False, data=data
        ) as answer:
            payload = await answer.content.read(MAX_BODY_BYTES + 1)
            while len(payload) <= MAX_BODY_BYTES and (more := await answer.content.read(MAX_BODY_BYTES)):
                payload += more
            if len(payload) > MAX_BODY_BYTES:
                raise ValueError(f"the answer is larger than {MAX_BODY_BYTES} bytes")
            return answer.status, answer.headers, payload


def _said(error: Exception) -> str:
    """What a client hides behind "cannot connect" is why it must not."""
    cause = error.__cause__
    return str(cause if isinstance(cause, ForbiddenAddressError) else error) or type(error).__name__


def _outcome(attempt: Attempt, status: int, payload: bytes) -> Happening:
    if 200 <= status < 300:
        return _finished(attempt, payload)
    said = payload[:MAX_SAID_CHARS].decode(errors="replace")
    told = f"status {status}{f': {said}' if said else ''}"
    if 300 <= status < 400:
        return Failed(attempt, f"{told}; redirects are not followed", again=False)
    return Failed(attempt, told, again=status >= 500 or status in _LATER)


def _finished(attempt: Attempt, payload: bytes) -> Happening:
    try:
        return Finished(attempt, object_in(payload))
    except ValueError as error:
        return Failed(attempt, str(error), again=False)


def _pause_s(retry_after: str | None) -> float:
    try:
        asked_s = float(retry_after) if retry_after is not None else POLL_S
    except ValueError:
        # A date; clocks differ.
        return POLL_S
    return POLL_S if math.isnan(asked_s) else min(MAX_POLL_S, max(MIN_POLL_S, asked_s))
