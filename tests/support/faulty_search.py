"""A proxy in front of a real OpenSearch whose bulk answers go wrong on the way, as networks and proxies make them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from aiohttp import ClientSession, web

from loadtest.processes.ports import free_port

SLOW_S = 5.0
_REFUSALS: dict[str, tuple[int, Any]] = {
    "401": (401, {"error": {"type": "security_exception", "reason": "missing authentication"}, "status": 401}),
    "403": (403, {"error": {"type": "security_exception", "reason": "no permissions for [bulk]"}, "status": 403}),
    "403 throttled": (403, {"Message": "Request Throttled Due To Too Many Requests"}),
    "404": (404, {"error": "no handler"}),
    "413": (413, None),
    "429": (429, {"error": {"type": "rejected_execution_exception", "reason": "full"}, "status": 429}),
    "500": (500, {"error": {"type": "boom", "reason": "boom"}, "status": 500}),
    "503": (503, None),
}


class FaultyProxy:
    """`mode`: "" passes; a status refuses without asking the node; or one of

    reset (after the node has stored), cut (half of the answer), fewer (an item is missing), html (200 and a page),
    slow (5 s before the node is asked), late (the node has stored, the answer never comes).
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.mode = ""
        self.bulks: Counter[str] = Counter()
        self.methods: set[str] = set()
        self._runner: web.AppRunner | None = None
        self._session: ClientSession | None = None
        self._port = free_port()
        self._closing = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._session = ClientSession(auto_decompress=False)
        self._closing.clear()
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def close(self) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.methods.add(request.method)
        body = await request.read()
        mode = self.mode if request.path == "/_bulk" else ""
        if request.path == "/_bulk":
            self.bulks[mode or "passed"] += 1
        if mode in _REFUSALS:
            status, said = _REFUSALS[mode]
            return web.Response(status=status) if said is None else web.json_response(said, status=status)
        if mode == "slow":
            await asyncio.sleep(SLOW_S)
        status, headers, answer = await self._ask(request, body)
        match mode:
            case "reset":
                return self._cut(request)
            case "late":
                await self._closing.wait()
                return self._cut(request)
            case "cut":
                response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(answer))})
                await response.prepare(request)
                await response.write(answer[: len(answer) // 2])
                return self._cut(request, response)
            case "fewer":
                found = json.loads(answer)
                found["items"] = found["items"][:-1]
                answer = json.dumps(found, separators=(",", ":")).encode()
            case "html":
                return web.Response(text="<html>It works!</html>", content_type="text/html")
        return web.Response(status=status, body=answer, headers=headers)

    async def _ask(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        assert self._session is not None
        kept = {name: request.headers[name] for name in ("Content-Type", "Content-Encoding") if name in request.headers}
        kept["Accept-Encoding"] = "identity"
        url = f"{self._target}{request.raw_path}"
        async with self._session.request(request.method, url, data=body, headers=kept) as response:
            found = {"Content-Type": response.headers.get("Content-Type", "application/json")}
            return response.status, found, await response.read()

    def _cut(self, request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return response or web.Response()
