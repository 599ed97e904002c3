"""Runs of the real store behind the read side of the Durable Streams protocol, for its public suite to ask for them.

A stream is a run, an append is an event that is committed to it; offsets are revisions. Reading is
`WorkflowService.events`, as `GET /api/v1/workflows/{run}/events` does it. What the protocol has beyond that (HTTP
caching, forks, producers, closing) is not ours, and is not here.
"""

from __future__ import annotations

import base64
import hashlib
import random
import uuid
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.adapters import cron
from gateway.adapters.clock import SystemClock
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.adapters.yaml_source import read_yaml
from gateway.workflows.records import Change, NewRun, Owned
from gateway.workflows.run import State
from gateway.workflows.service import RunRefusedError, WorkflowService
from gateway.workflows.states import RunStatus
from gateway.workflows.step import Event, Kind

ACCOUNT, LONG_POLL_S, PAGE = "streams", 0.5, 1_000
NODE = {"run": {"device": {"id": "d", "command": "c"}}}
_DIGITS = 16


class Streams:
    """The server. `start` first."""

    def __init__(self, url: str) -> None:
        self._store = SqlWorkflowStore(parse_url(url))
        self._clock = SystemClock()
        chance = random.Random(1)
        runners: dict[str, Any] = {"device": _Anything()}
        self._service = WorkflowService(
            self._store, runners, self._clock, chance, read_yaml, cron, lambda: "local", lambda: None, _nothing
        )
        self._kinds: dict[str, str] = {}
        self._owned: dict[str, Owned] = {}
        self._states: dict[str, State] = {}

    async def start(self) -> web.AppRunner:
        await self._store.open()
        self._lease = await self._store.register("local", "streams", 3_600)
        text = '{"name": "stream", "nodes": {"a": {"run": {"device": {"id": "d", "command": "c"}}}}}'
        await self._service.put(ACCOUNT, text, yaml=False, admin=True, dry_run=False)
        application = web.Application()
        application.router.add_put("/v1/stream/{name:.+}", self._put)
        application.router.add_post("/v1/stream/{name:.+}", self._post)
        application.router.add_get("/v1/stream/{name:.+}", self._get)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def close(self) -> None:
        await self._store.close()

    async def _put(self, request: web.Request) -> web.StreamResponse:
        run = _run(request)
        if run not in self._kinds:
            self._kinds[run] = request.headers.get("Content-Type", "application/octet-stream")
            new = NewRun(run, ACCOUNT, "stream", None, {}, self._clock.time_ms())
            await self._store.create([new], "local")
            self._owned[run] = next(one for one in await self._store.owned(self._lease) if one.id == run)
            self._states[run] = State(run, "stream", 1, {}, status=RunStatus.RUNNING)
            status = 201
        else:
            status = 200
        if payload := await request.read():
            await self._append(run, payload)
        headers = {"Stream-Next-Offset": _offset(self._states[run].revision), "Location": str(request.url)}
        return web.Response(status=status, headers=headers, content_type=self._kinds[run].partition(";")[0])

    async def _post(self, request: web.Request) -> web.StreamResponse:
        run = _run(request)
        if run not in self._kinds:
            return web.Response(status=404)
        await self._append(run, await request.read())
        return web.Response(status=204, headers={"Stream-Next-Offset": _offset(self._states[run].revision)})

    async def _append(self, run: str, payload: bytes) -> None:
        """An event in a transaction of a manager."""
        before = self._states[run].revision
        event = Event(Kind.PROGRESS, message=base64.b64encode(payload).decode())
        state = State(run, "stream", 1, {}, status=RunStatus.RUNNING, revision=before + 1)
        change = Change(state, self._owned[run].epoch, before, {}, {}, [event], [], [], None, ACCOUNT)
        assert await self._store.commit(self._lease, [change], self._clock.time_ms()) == {run}
        self._states[run] = state
        self._service.moved(run, ACCOUNT)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        run, asked, live = _run(request), request.query.get("offset"), request.query.get("live")
        try:
            newest = (await self._service.run(ACCOUNT, run)).state.revision
        except RunRefusedError:
            return web.Response(status=404)
        after = _after(asked, newest)
        if after is None or (live and asked is None):
            return web.Response(status=400)
        wait_s = LONG_POLL_S if live == "long-poll" else 0
        found, _ = await self._service.events(ACCOUNT, run, after, PAGE, wait_s)
        next_offset = found[-1].revision if found else after
        headers = {"Stream-Next-Offset": _offset(next_offset), "Stream-Up-To-Date": "true", "Cache-Control": "no-store"}
        if live:
            headers["Stream-Cursor"] = str(int(request.query.get("cursor", "0")) + 1)
        if live and not found:
            return web.Response(status=204, headers=headers)
        body = b"".join(base64.b64decode(record.event.message or "") for record in found)
        kind = self._kinds[run].partition(";")[0]
        if kind == "application/json":
            body = b"[" + b",".join(base64.b64decode(record.event.message or "") for record in found) + b"]"
        return web.Response(body=body, headers={**headers, "Content-Type": self._kinds[run]})


class _Anything:
    for_admins = False

    def problem(self, account: str, work: Any) -> str:
        return ""


def _run(request: web.Request) -> str:
    """The same run for the same name."""
    return str(uuid.UUID(bytes=hashlib.sha256(request.match_info["name"].encode()).digest()[:16]))


def _nothing(new: NewRun, version: int) -> None:
    """No manager moves streams on."""


def _offset(revision: int) -> str:
    """Their order as text is their order."""
    return f"{revision:0{_DIGITS}d}"


def _after(asked: str | None, newest: int) -> int | None:
    """None: it is no offset."""
    if asked in (None, "-1"):
        return 0
    if asked == "now":
        return newest
    return int(asked) if asked and asked.isascii() and asked.isdigit() and len(asked) == _DIGITS else None


FOLDER = Path(__file__).parent
