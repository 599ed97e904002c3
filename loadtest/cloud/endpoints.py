"""Stand-ins for AWS on this machine, over real HTTP: Elastic Load Balancing, Amazon ECS, task metadata, credentials.

They answer the calls of `gateway.adapters` as the real ones do, and fail in the same ways on demand. Not like AWS:

- signatures are not verified: only the expiry of the access key is checked;
- there are no permissions but `fail_with`, no pagination, no mutating actions (the driver of a deploy calls `Elbv2`);
- all request ids are the same, and one port serves everything, under different paths.

Listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from loadtest.cloud.cloudwatch import CloudWatch
from loadtest.cloud.ecs_records import Ecs, EcsError
from loadtest.cloud.elbv2 import ElbError, Elbv2
from loadtest.cloud.elbv2_xml import answer, error
from loadtest.cloud.listening import Listening, caller

# Code → HTTP status and message, as Elastic Load Balancing sends them. Others: 400.
FAILURES = {
    "AccessDenied": (403, "User: arn:aws:sts::123456789012:assumed-role/task is not authorized to perform this"),
    "ExpiredToken": (403, "The security token included in the request is expired"),
    "InternalFailure": (500, "The request processing has failed because of an unknown error"),
    "ServiceUnavailable": (503, "The request has failed due to a temporary failure of the server"),
    "SignatureDoesNotMatch": (403, "The request signature we calculated does not match"),
    "TargetGroupNotFound": (400, "One or more target groups not found"),
    "Throttling": (400, "Rate exceeded"),
}
# The names of these errors in JSON protocols, which answer all of them with 400.
JSON_NAMES = {
    "AccessDenied": "AccessDeniedException",
    "ExpiredToken": "ExpiredTokenException",
    "Throttling": "ThrottlingException",
    "InternalFailure": "ServerException",
}
SESSION_TOKEN = "not-a-real-session-token"


class Endpoints:
    """`fail_with`: by service (`elbv2`, `ecs`, `metadata`, `credentials`) or `service:Action`, how it fails now:

    an error code of AWS (`AccessDenied`, `Throttling`, …), or `hang` (no answer until `close`), `refuse` (a reset; to
    refuse connections, `close`), `garbage` (200 with nonsense), `truncated` (half an answer), `proxy` (502 with HTML).
    `late_s`: all answers but those of metadata and credentials come so many real seconds later.
    `requests` counts by `service:Action`, `peers` holds the addresses from which a service was asked. Methods are for
    one event loop.
    """

    def __init__(self, elb: Elbv2, ecs: Ecs | None = None, scale: float = 1.0) -> None:
        """`scale` is the number of simulated seconds in a real one; gateways live in real ones and are told those."""
        self.elb = elb
        self.ecs = ecs or Ecs()
        self.ecs.scale = scale
        self.metrics = CloudWatch()
        self.scale = scale
        self.fail_with: dict[str, str] = {}
        self.late_s = 0.0
        self.requests: Counter[str] = Counter()
        self.peers: defaultdict[str, set[object]] = defaultdict(set)
        self.expired_keys: set[str] = set()
        self.lifetime_s = 6 * 3600.0
        self._generation = 1
        self._listening = Listening()
        self._closing = asyncio.Event()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:…`; known after the first `start`."""
        return self._listening.url

    @property
    def balancer_calls(self) -> int:
        """The number of calls to Elastic Load Balancing, whatever the answers."""
        return sum(count for asked, count in self.requests.items() if asked.startswith("elbv2:"))

    @property
    def access_key(self) -> str:
        """The access key that the credentials endpoint hands out now."""
        return f"ASIAHEIWA{self._generation:07d}"

    async def start(self) -> None:
        """Listen on a free port; after `close`, on the same one again."""
        application = web.Application()
        application.router.add_post("/elbv2/", self._elbv2)
        application.router.add_post("/ecs/", self._ecs)
        application.router.add_post("/scaling/", self._scaling)
        application.router.add_post("/monitoring/", self._monitoring)
        application.router.add_get("/metadata/{task}", self._metadata)
        application.router.add_get("/metadata/{task}/task", self._metadata)
        application.router.add_get("/credentials", self._credentials)
        self._closing.clear()
        await self._listening.open(application)

    async def close(self) -> None:
        """Refuse connections, and end the calls that hang."""
        self._closing.set()
        await self._listening.close()

    def rotate(self) -> None:
        """Let the credentials handed out so far expire; the next ones are new."""
        self.expired_keys.add(self.access_key)
        self._generation += 1

    def environment(self, task: str = "", credentials: str = "static") -> dict[str, str]:
        """The environment of a process that is to use these endpoints; `task` is an id of `ecs.tasks`.

        `credentials`: `static`, or `container` for those of the endpoint.
        """
        found = caller(
            None if credentials == "container" else self.access_key,
            elastic_load_balancing_v2=f"{self.url}/elbv2/",
            ecs=f"{self.url}/ecs/",
            application_auto_scaling=f"{self.url}/scaling/",
            cloudwatch=f"{self.url}/monitoring/",
        )
        if credentials == "container":
            found["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{self.url}/credentials"
        if task:
            found["ECS_CONTAINER_METADATA_URI_V4"] = f"{self.url}/metadata/{task}"
        return found

    async def _elbv2(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        failure = await self._failed(request, "elbv2", form.get("Action", ""))
        if isinstance(failure, web.StreamResponse):
            return failure
        try:
            if failure:
                raise _elb_error(failure, request)
            text, status = answer(self.elb, form, self.scale), 200
        except ElbError as problem:
            text, status = error(problem.code, str(problem), problem.status), problem.status
        return web.Response(text=text, status=status, content_type="text/xml")

    async def _ecs(self, request: web.Request) -> web.StreamResponse:
        action = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        body = await request.json()
        failure = await self._failed(request, "ecs", action)
        if isinstance(failure, web.StreamResponse):
            return failure
        try:
            if failure:
                raise _ecs_error(failure)
            said, status = self.ecs.answer(action, body), 200
        except EcsError as problem:
            said, status = {"__type": problem.code, "message": str(problem)}, problem.status
        return _json(said, status, "application/x-amz-json-1.1")

    async def _scaling(self, request: web.Request) -> web.StreamResponse:
        action = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        failure = await self._failed(request, "application-autoscaling", action)
        if isinstance(failure, web.StreamResponse):
            return failure
        if failure:
            problem = _ecs_error(failure)
            return _json({"__type": problem.code, "message": str(problem)}, problem.status)
        return _json(self.ecs.scaling_policies(), 200, "application/x-amz-json-1.1")

    async def _monitoring(self, request: web.Request) -> web.StreamResponse:
        action = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        failure = await self._failed(request, "cloudwatch", action)
        if isinstance(failure, web.StreamResponse):
            return failure
        if failure or action != "GetMetricData":
            problem = _ecs_error(failure or "UnknownOperationException")
            return _json({"__type": problem.code, "message": str(problem)}, problem.status)
        return _json(self.metrics.answer(await request.json()), 200, "application/x-amz-json-1.0")

    async def _metadata(self, request: web.Request) -> web.StreamResponse:
        failure = await self._failed(request, "metadata", "task" if request.path.endswith("/task") else "container")
        if isinstance(failure, web.StreamResponse):
            return failure
        task = self.ecs.tasks.get(request.match_info["task"])
        if failure or task is None:
            return web.Response(text="V4 container metadata handler: unable to get container ID", status=500)
        whole = request.path.endswith("/task")
        return _json(self.ecs.task_metadata(task) if whole else self.ecs.container_metadata(task))

    async def _credentials(self, request: web.Request) -> web.StreamResponse:
        failure = await self._failed(request, "credentials", "get")
        if isinstance(failure, web.StreamResponse):
            return failure
        if failure:
            return _json({"code": failure, "message": "no credentials"}, 500)
        expires = datetime.now(UTC) + timedelta(seconds=self.lifetime_s)
        return _json(
            {
                "AccessKeyId": self.access_key,
                "SecretAccessKey": "not-a-real-secret",
                "Token": SESSION_TOKEN,
                "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )

    async def _failed(self, request: web.Request, service: str, action: str) -> web.StreamResponse | str:
        """A broken answer, or the code of the error to answer with; "": no failure."""
        self.requests[f"{service}:{action}"] += 1
        if request.transport is not None:
            self.peers[service].add(request.transport.get_extra_info("peername"))
        if self.late_s and service not in ("metadata", "credentials"):
            await asyncio.sleep(self.late_s)
        how = self.fail_with.get(f"{service}:{action}") or self.fail_with.get(service, "")
        key = re.search(r"Credential=([^/]+)/", request.headers.get("Authorization", ""))
        if not how and key and key[1] in self.expired_keys:
            return "ExpiredToken"
        match how:
            case "hang":
                await self._closing.wait()
                return _cut(request)
            case "refuse":
                return _cut(request)
            case "garbage":
                return web.Response(body=b"\x1f\x8b not \xff what you asked for <", content_type="text/xml")
            case "truncated":
                response = web.StreamResponse(headers={"Content-Length": "4096", "Content-Type": "text/xml"})
                await response.prepare(request)
                await response.write(b"<DescribeTargetHealthResponse><Desc")
                return _cut(request, response)
            case "proxy":
                page = "<html><body><h1>502 Bad Gateway</h1></body></html>"
                return web.Response(text=page, status=502, content_type="text/html")
        return how


def _elb_error(code: str, request: web.Request) -> ElbError:
    status, message = FAILURES.get(code, (400, code))
    if code == "SignatureDoesNotMatch":
        # AWS shows what it signed, including the session token.
        message += f": x-amz-security-token:{request.headers.get('X-Amz-Security-Token', '')}"
    return ElbError(code, message, status)


def _ecs_error(code: str) -> EcsError:
    status, message = FAILURES.get(code, (400, code))
    return EcsError(JSON_NAMES.get(code, code), message, 500 if status >= 500 else 400)


def _cut(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response()


def _json(said: dict[str, Any], status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.json_response(said, status=status, content_type=content_type)
