"""The stand-ins of AWS Batch and of tasks of Amazon ECS over real HTTP; jobs are processes on this machine.

Not like AWS: signatures are not verified, there are no permissions but `fail_with`; a job has this machine's file
system. Listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from loadtest.cloud.batch import Batch
from loadtest.cloud.ecs_jobs import EcsJobs
from loadtest.cloud.job_limits import JobsError
from loadtest.cloud.listening import Listening, caller

TICK_S = 0.05


class JobsEndpoint:
    """`fail_with`: by service (`batch`, `ecs`) or `service:operation`, how it fails now: an error code of AWS's,
    `refuse` (a reset before anything is done), or `cut` (it is done, and the answer is lost).

    `requests` counts by `service:operation`. Methods are for one event loop.
    """

    def __init__(self, batch: Batch | None = None, ecs: EcsJobs | None = None) -> None:
        self.batch = batch or Batch(time.monotonic)
        self.ecs = ecs or EcsJobs(time.monotonic)
        self.fail_with: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        self._listening = Listening()
        self._ticking: asyncio.Task[None] | None = None
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._waiting: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:…`; known after `start`."""
        return self._listening.url

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a process that is to talk to this."""
        return caller(batch=f"{self.url}/batch", ecs=f"{self.url}/ecs/")

    async def start(self) -> None:
        """Listen on a free port; after `close`, on the same one again."""
        application = web.Application()
        application.router.add_post("/batch/v1/{operation}", self._batch)
        application.router.add_post("/ecs/", self._ecs)
        application.router.add_get("/metadata/{task}/task", self._metadata)
        await self._listening.open(application)
        self._ticking = asyncio.create_task(self._tick(), name="stand-in jobs")

    async def close(self) -> None:
        """Refuse connections, and kill what runs."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        for name in list(self._processes):
            self._kill(name)
        await asyncio.gather(*self._waiting, return_exceptions=True)
        await self._listening.close()

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        operation = request.match_info["operation"]
        try:
            said, status, headers = await self._said(request, "batch", operation), 200, {}
        except JobsError as error:
            said, status = {"message": str(error)}, error.status
            headers = {"x-amzn-errortype": error.code}
        return web.json_response(said, status=status, headers=headers)

    async def _ecs(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        try:
            said, status = await self._said(request, "ecs", operation), 200
        except JobsError as error:
            said, status = {"__type": error.code, "message": str(error)}, error.status
        return web.json_response(said, status=status, content_type="application/x-amz-json-1.1")

    async def _said(self, request: web.Request, service: str, operation: str) -> dict[str, Any]:
        self.requests[f"{service}:{operation}"] += 1
        body = json.loads(await request.read() or b"{}")
        how = self.fail_with.get(f"{service}:{operation}") or self.fail_with.get(service, "")
        if how not in ("", "cut", "refuse"):
            raise JobsError(how, "as ordered", 429 if how == "TooManyRequestsException" else 400)
        said: dict[str, Any] = {}
        if how != "refuse":
            said = (self.batch if service == "batch" else self.ecs).answer(operation, body)
        if how and request.transport is not None:
            request.transport.abort()
        return said

    async def _metadata(self, request: web.Request) -> web.StreamResponse:
        task = request.match_info["task"]
        found = next((one for one in self.ecs.tasks.values() if one.id == task), None)
        if found is None:
            return web.Response(status=404)
        return web.json_response({"TaskARN": found.arn})

    # What runs

    async def _tick(self) -> None:
        while True:
            for job in self.batch.due():
                environment = {**job.definition.environment, **job.environment, "AWS_BATCH_JOB_ID": job.id}
                await self._begin(self.batch, job.id, job.command, environment)
            for task in self.ecs.due():
                metadata = {"ECS_CONTAINER_METADATA_URI_V4": f"{self.url}/metadata/{task.id}"}
                await self._begin(self.ecs, task.arn, task.command, {**task.environment, **metadata})
            for service in (self.batch, self.ecs):
                while service.unwanted:
                    self._kill(service.unwanted.pop())
            await asyncio.sleep(TICK_S)

    async def _begin(
        self, service: Batch | EcsJobs, name: str, command: list[str], environment: Mapping[str, str]
    ) -> None:
        given = {"PATH": os.environ["PATH"], "HOME": "/", **environment}
        try:
            process = await asyncio.create_subprocess_exec(*command, env=given, start_new_session=True)
        except OSError:
            service.ended(name, 127)
            return
        self._processes[name] = process
        task = asyncio.create_task(self._wait(service, name, process), name=f"stand-in job {name}")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _wait(self, service: Batch | EcsJobs, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self._processes.pop(name, None)
        service.ended(name, code if code >= 0 else 128 - code)

    def _kill(self, name: str) -> None:
        process = self._processes.get(name)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
