"""Both applications through real HTTP, on fakes of what stands behind them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Counter
from yarl import URL

from gateway.api.application import build_operations, build_public
from gateway.api.context import Api
from gateway.connections.close_codes import Fault
from gateway.connections.identity import Identity
from gateway.connections.info import ConnectionInfo, DisconnectInfo
from gateway.errors import QueryError, StoreError, TokenError
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability, Pressure, Sender
from gateway.locations.query import Found, Page, Query
from tests.support.bench import Bench

NOW_MS = 1_800_000_000_000
ODD_IDS = ["a/b", "100%", "%2F", "ビル 7", "a?b#c", "{x}", "a+b&c=d", "..;", "tab\tnew\nline", "é" * 64]


class FakeClock:
    def time_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 0.0


class FakeTokens:
    """A token is `account:device:scope scope`."""

    def verify(self, token: str) -> Identity:
        if token == "expired":
            raise TokenError('the token has expired "now"')
        account, device, scopes = token.split(":", 2)
        return Identity(account, device, frozenset(scopes.replace(",", ":").split("+")), 2e9)


@dataclass
class FakeDevices:
    connected: dict[tuple[str, str], ConnectionInfo] = field(default_factory=dict)
    ended: dict[tuple[str, str], DisconnectInfo] = field(default_factory=dict)
    positions: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, int, str]] = field(default_factory=list)

    def connect(self, account: str, device: str) -> None:
        self.connected[account, device] = ConnectionInfo("c", device, "", 1, "10.0.0.1:5", 2, 3)

    def page(self, account: str, after: str | None, limit: int) -> list[ConnectionInfo]:
        names = sorted(device for owner, device in self.connected if owner == account)
        return [self.connected[account, name] for name in names if after is None or name > after][:limit]

    def find(self, account: str, device: str) -> ConnectionInfo | None:
        return self.connected.get((account, device))

    def last_disconnect(self, account: str, device: str) -> DisconnectInfo | None:
        return self.ended.get((account, device))

    def latest(self, account: str, device: str) -> dict[str, Any] | None:
        return self.positions.get((account, device))

    def disconnect(self, account: str, device: str, code: int, reason: str) -> bool:
        self.asked.append((account, device, code, reason))
        return (account, device) in self.connected


@dataclass
class FakePipeline:
    """Acknowledges all but ids that begin with `no` (refused), `busy` (later) or `hang` (never answered)."""

    stored: list[tuple[str, str, str]] = field(default_factory=list)
    forgotten: int = 0

    def submit(self, sender: Sender, account: str, device: str, events: Sequence[LocationEvent]) -> Pressure:
        good = [event for event in events if not event.id.startswith(("no", "busy", "hang"))]
        self.stored += [(account, device, event.id) for event in good]
        loop = asyncio.get_running_loop()
        loop.call_soon(sender.acknowledge, good[:1], Durability.INDEXED)
        loop.call_soon(sender.acknowledge, good[1:], Durability.SPOOLED)
        for event in events:
            if event.id.startswith("no"):
                loop.call_soon(sender.refuse, [event.id], "rejected", "will not", None)
            elif event.id.startswith("busy"):
                loop.call_soon(sender.refuse, [event.id], "busy", "later", 1500)
        return Pressure.GO

    def forget(self, sender: object) -> None:
        self.forgotten += 1


@dataclass
class FakeSearch:
    asked: list[tuple[str, Query]] = field(default_factory=list)
    failure: Exception | None = None
    hangs: bool = False
    newest: Found | None = None

    async def search(self, account: str, query: Query) -> Page:
        self.asked.append((account, query))
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        return Page([Found("d", "1", 5, 1.0, 2.0)], "more")

    track = search

    async def latest(self, account: str, device: str) -> Found | None:
        return self.newest


class World:
    """The fakes, and a client of each listener."""

    def __init__(self) -> None:
        self.devices = FakeDevices()
        self.pipeline = FakePipeline()
        self.search = FakeSearch()
        self.registry = CollectorRegistry()
        Counter("heiwa_things", "Things.", registry=self.registry).inc()
        self.checks: list[tuple[str, bool, str]] = [("drain", True, ""), ("store", True, "")]
        self.api = Api(
            tokens=FakeTokens(),
            devices=self.devices,
            pipeline=self.pipeline,
            search=self.search,
            readiness=lambda: self.checks,
            registry=self.registry,
            clock=FakeClock(),
            drainer=Bench().drainer,
            max_message_bytes=4096,
            deadline_s=0.3,
        )
        self._opened: list[TestClient[web.Request, web.Application]] = []

    async def client(
        self, build: Callable[[Api], web.Application], **changes: Any
    ) -> TestClient[web.Request, web.Application]:
        client = TestClient(TestServer(build(replace(self.api, **changes))))
        await client.start_server()
        self._opened.append(client)
        return client

    async def close(self) -> None:
        for client in self._opened:
            await client.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


@pytest.fixture
async def operations(world: World) -> TestClient[web.Request, web.Application]:
    return await world.client(build_operations)


@pytest.fixture
async def public(world: World) -> TestClient[web.Request, web.Application]:
    return await world.client(build_public)


Client = TestClient[web.Request, web.Application]


def bearer(scope: str, account: str = "acme", device: str = "d1") -> dict[str, str]:
    return {"Authorization": f"Bearer {account}:{device}:{scope.replace(' ', '+').replace(':', ',')}"}


def event(id_: str, **changes: Any) -> dict[str, Any]:
    return {"id": id_, "time": NOW_MS, "lat": 35.0, "lon": 135.0, **changes}


async def problem(response: Any, status: int) -> dict[str, Any]:
    """The body of a problem, after checking what every problem must have."""
    assert response.status == status
    assert response.content_type == "application/problem+json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = json.loads(await response.read())
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    return body


def device_url(device: str, rest: str = "") -> URL:
    return URL(f"/api/v1/devices/{quote(device, safe='')}{rest}", encoded=True)


# Who may ask


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/api/v1/devices", "device:read"),
        ("GET", "/api/v1/devices/d1", "device:read"),
        ("GET", "/api/v1/devices/d1/track", "location:read"),
        ("POST", "/api/v1/devices/d1/disconnect", "device:write"),
        ("GET", "/api/v1/locations/search", "location:read"),
        ("POST", "/api/v1/locations/search", "location:read"),
    ],
)
async def test_every_operation_needs_its_scope(operations: Client, method: str, path: str, scope: str) -> None:
    bare = await operations.request(method, path)
    await problem(bare, 401)
    assert bare.headers["WWW-Authenticate"] == 'Bearer realm="heiwa"'
    wrong = await operations.request(method, path, headers=bearer("metrics:read"))
    body = await problem(wrong, 403)
    assert body["scope"] == scope
    assert scope in body["detail"]
    assert f'scope="{scope}"' in wrong.headers["WWW-Authenticate"]
    assert (await operations.request(method, path, headers=bearer("admin"))).status != 403


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer ", "bearer  "])
async def test_other_schemes_are_not_tokens(operations: Client, header: str) -> None:
    await problem(await operations.get("/api/v1/devices", headers={"Authorization": header}), 401)


async def test_a_token_that_does_not_hold_says_why_in_a_clean_header(operations: Client) -> None:
    response = await operations.get("/api/v1/devices", headers={"Authorization": "Bearer expired"})
    assert "expired" in (await problem(response, 401))["detail"]
    challenge = response.headers["WWW-Authenticate"]
    assert challenge == 'Bearer realm="heiwa", error="invalid_token", error_description="the token has expired now"'


# Storing


async def test_events_are_stored_and_each_is_answered(world: World, public: Client) -> None:
    events = [
        event("a"),
        event("b"),
        event("no-1"),
        event("busy-1"),
        event("bad-1", lat=91),
        event("old-1", time=0),
        event("a", lat=1.0),
    ]
    response = await public.post("/api/v1/locations", json={"events": events}, headers=bearer("location:write"))
    assert response.status == 200
    body = await response.json()
    assert body["acks"] == [{"ids": ["a"], "durability": "indexed"}, {"ids": ["b"], "durability": "spooled"}]
    nacks = {nack["ids"][0]: nack for nack in body["nacks"]}
    assert set(nacks) == {"no-1", "busy-1", "bad-1", "old-1"}
    assert "$.events[4].lat" in nacks["bad-1"]["message"]
    assert "$.events[5].time" in nacks["old-1"]["message"]
    assert nacks["busy-1"]["retry_after_ms"] == 1500
    assert "retry_after_ms" not in nacks["no-1"]
    assert world.pipeline.stored == [("acme", "d1", "a"), ("acme", "d1", "b")]
    assert world.pipeline.forgotten == 1


async def test_only_bad_events_never_reach_the_pipeline(world: World, public: Client) -> None:
    body = {"type": "locations", "events": [event("a", lon="x")]}
    response = await public.post("/api/v1/locations", json=body, headers=bearer("location:write"))
    assert [nack["ids"] for nack in (await response.json())["nacks"]] == [["a"]]
    assert world.pipeline.forgotten == 0


async def test_what_is_not_settled_in_time_is_503_and_may_be_sent_again(world: World, public: Client) -> None:
    body = {"events": [event("a"), event("hang")]}
    response = await public.post("/api/v1/locations", json=body, headers=bearer("location:write"))
    assert "same ids" in (await problem(response, 503))["detail"]
    assert int(response.headers["Retry-After"]) > 0
    assert world.pipeline.forgotten == 1


@pytest.mark.parametrize(
    ("payload", "status", "field"),
    [
        (b"", 400, "$"),
        (b"{", 400, "$"),
        (b"\xff", 400, "$"),
        (b"[" * 3000, 422, "$"),
        (b'{"events":' + b"[" * 3000, 400, "$"),
        (b"[]", 422, "$"),
        (b"{}", 422, "$"),
        (b'{"events":[]}', 422, "$.events"),
        (b'{"events":1}', 422, "$.events"),
        (b'{"type":"location","events":[]}', 422, "$.type"),
        (b'{"type":1}', 422, "$.type"),
    ],
)
async def test_bodies_that_cannot_be_read(public: Client, payload: bytes, status: int, field: str) -> None:
    headers = bearer("location:write") | {"Content-Type": "application/json"}
    body = await problem(await public.post("/api/v1/locations", data=payload, headers=headers), status)
    assert body["errors"][0]["field"] == field


async def test_an_event_without_a_name_is_refused_without_one(public: Client) -> None:
    events = {"events": [{"lat": 1}, event("e1")]}
    response = await public.post("/api/v1/locations", json=events, headers=bearer("location:write"))
    body = await response.json()
    assert [name for ack in body["acks"] for name in ack["ids"]] == ["e1"]
    assert [(nack["ids"], nack["code"]) for nack in body["nacks"]] == [([], "invalid")]
    assert "$.events[0]" in body["nacks"][0]["message"]


async def test_a_large_body_is_refused(public: Client) -> None:
    response = await public.post("/api/v1/locations", data=b"x" * 5000, headers=bearer("location:write") | JSON)
    assert "4096" in (await problem(response, 413))["detail"]


async def test_a_small_body_that_inflates_is_refused(public: Client) -> None:
    import gzip

    headers = bearer("location:write") | JSON | {"Content-Encoding": "gzip"}
    response = await public.post("/api/v1/locations", data=gzip.compress(b" " * 1_000_000), headers=headers)
    await problem(response, 413)


async def test_a_body_of_another_type_is_refused(public: Client) -> None:
    headers = bearer("location:write") | {"Content-Type": "text/xml"}
    await problem(await public.post("/api/v1/locations", data=b"<a/>", headers=headers), 415)


JSON = {"Content-Type": "application/json"}


# Searching


async def test_a_search_asks_within_the_account(world: World, operations: Client) -> None:
    query = {"near": "35,135", "radius_m": "500", "from": "1", "limit": "3", "device": "d9"}
    response = await operations.get("/api/v1/locations/search", params=query, headers=bearer("location:read"))
    assert await response.json() == {
        "events": [{"device": "d", "id": "1", "time": 5, "lat": 1.0, "lon": 2.0}],
        "next": "more",
    }
    account, asked = world.search.asked[0]
    assert (account, asked.device, asked.limit, asked.from_ms) == ("acme", "d9", 3, 1)


@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_polygon_comes_in_the_body(world: World, operations: Client, wrapped: bool) -> None:
    geometry = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    body = {"polygon": geometry} if wrapped else geometry
    response = await operations.post("/api/v1/locations/search?limit=5", json=body, headers=bearer("location:read"))
    assert response.status == 200
    assert world.search.asked[0][1].limit == 5
    assert world.search.asked[0][1].shape is not None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1&limit=2", "limit"),
        ("bbox=1,2,3", "bbox"),
        ("near=1,2", "radius_m"),
        ("from=yesterday", "from"),
        ("cursor=!!!", "cursor"),
        ("colour=red", "colour"),
        ("device=", "device"),
    ],
)
async def test_a_bad_parameter_is_named(operations: Client, query: str, field: str) -> None:
    response = await operations.get(f"/api/v1/locations/search?{query}", headers=bearer("location:read"))
    body = await problem(response, 400)
    assert body["errors"][0]["field"] == field
    assert body["errors"][0]["problem"]


@pytest.mark.parametrize("body", [{"polygon": 1}, {"polygon": {"type": "Point"}}, {}, {"polygon": None}])
async def test_a_bad_polygon_is_named(operations: Client, body: dict[str, Any]) -> None:
    response = await operations.post("/api/v1/locations/search", json=body, headers=bearer("location:read"))
    assert (await problem(response, 400))["errors"][0]["field"] == "polygon"


async def test_a_long_query_is_refused(operations: Client) -> None:
    response = await operations.get(f"/api/v1/devices?cursor={'x' * 5000}", headers=bearer("device:read"))
    await problem(response, 414)


async def test_a_search_that_hangs_is_503(world: World, operations: Client) -> None:
    world.search.hangs = True
    response = await operations.get("/api/v1/locations/search", headers=bearer("location:read"))
    await problem(response, 503)


@pytest.mark.parametrize(
    ("failure", "status"),
    [(StoreError("disk /var/x"), 503), (RuntimeError("secret"), 500), (QueryError("a", "b"), 400)],
)
async def test_failures_behind_are_told_without_details(
    world: World, operations: Client, failure: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.search.failure = failure
    body = await problem(await operations.get("/api/v1/locations/search", headers=bearer("location:read")), status)
    assert "secret" not in json.dumps(body)
    assert "/var/x" not in json.dumps(body)
    assert ("request_failed" in caplog.text) == (status >= 500)


# Devices


async def test_cursors_lead_through_all_devices_once(world: World, operations: Client) -> None:
    names = sorted([*ODD_IDS, *(f"d{number:02}" for number in range(13))])
    for name in names:
        world.devices.connect("acme", name)
    world.devices.connect("other", "hidden")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "5"} | ({"cursor": cursor} if cursor else {})
        response = await operations.get("/api/v1/devices", params=query, headers=bearer("device:read"))
        body = await response.json()
        assert 0 < len(body["devices"]) <= 5
        seen += [device["device"] for device in body["devices"]]
        cursor = body["next"]
    assert seen == names


@pytest.mark.parametrize("query", ["limit=x", "limit=1001", "cursor=AAA", "cursor=%21", "offset=3"])
async def test_a_bad_page_is_refused(operations: Client, query: str) -> None:
    await problem(await operations.get(f"/api/v1/devices?{query}", headers=bearer("device:read")), 400)


@pytest.mark.parametrize("name", ODD_IDS)
async def test_any_id_can_stand_in_a_path(world: World, operations: Client, name: str) -> None:
    world.devices.connect("acme", name)
    response = await operations.get(device_url(name), headers=bearer("device:read"))
    assert (await response.json())["device"] == name
    await operations.get(device_url(name, "/track"), headers=bearer("location:read"))
    assert world.search.asked[0][1].device == name
    response = await operations.post(device_url(name, "/disconnect"), headers=bearer("device:write"))
    assert response.status == 202


async def test_a_device_is_what_was_last_heard_of_it(world: World, operations: Client) -> None:
    await problem(await operations.get("/api/v1/devices/d1", headers=bearer("device:read")), 404)
    world.devices.ended["acme", "d1"] = DisconnectInfo(9, 1006, "heartbeat", Fault.NETWORK)
    body = await (await operations.get("/api/v1/devices/d1", headers=bearer("device:read"))).json()
    assert body == {
        "device": "d1",
        "connection": None,
        "last_disconnect": {"time_ms": 9, "code": 1006, "reason": "heartbeat", "fault": "network"},
        "latest": None,
    }
    world.search.newest = Found("d1", "7", 5, 1.0, 2.0)
    body = await (await operations.get("/api/v1/devices/d1", headers=bearer("device:read"))).json()
    assert body["latest"] == {"device": "d1", "id": "7", "time": 5, "lat": 1.0, "lon": 2.0}
    world.devices.connect("acme", "d1")
    world.devices.positions["acme", "d1"] = {"id": "8", "time": 6, "lat": 3.0, "lon": 4.0}
    body = await (await operations.get("/api/v1/devices/d1", headers=bearer("device:read"))).json()
    assert body["connection"]["address"] == "10.0.0.1:5"
    assert body["latest"]["id"] == "8"


async def test_accounts_do_not_see_each_other(world: World, operations: Client) -> None:
    world.devices.connect("acme", "d1")
    foreign = bearer("device:read device:write location:read", account="other")
    await problem(await operations.get("/api/v1/devices/d1", headers=foreign), 404)
    assert (await (await operations.get("/api/v1/devices", headers=foreign)).json())["devices"] == []
    await problem(await operations.post("/api/v1/devices/d1/disconnect", headers=foreign), 404)
    assert world.devices.asked == [("other", "d1", 1012, "operator")]
    await operations.get("/api/v1/devices/d1/track", headers=foreign)
    assert world.search.asked[0][0] == "other"


async def test_disconnect_passes_code_and_reason(world: World, operations: Client) -> None:
    world.devices.connect("acme", "d1")
    wish = {"code": 1008, "reason": "stolen"}
    response = await operations.post("/api/v1/devices/d1/disconnect", json=wish, headers=bearer("device:write"))
    assert await response.json() == {"device": "d1", **wish}
    assert world.devices.asked == [("acme", "d1", 1008, "stolen")]


@pytest.mark.parametrize(
    "wish", [{"code": 1006}, {"code": "x"}, {"reason": ""}, {"reason": "a\nb"}, {"reason": "x" * 101}, {"cod": 1}, 7]
)
async def test_disconnect_refuses_what_cannot_be_sent(world: World, operations: Client, wish: Any) -> None:
    response = await operations.post("/api/v1/devices/d1/disconnect", json=wish, headers=bearer("device:write"))
    await problem(response, 422)
    assert world.devices.asked == []


async def test_a_name_longer_than_any_device_has_is_not_found(operations: Client) -> None:
    await problem(await operations.get(device_url("é" * 65), headers=bearer("device:read")), 404)


# Health, metrics, and what does not exist


@pytest.mark.parametrize("build", [build_public, build_operations])
async def test_health(world: World, build: Callable[[Api], web.Application]) -> None:
    client = await world.client(build)
    assert await (await client.get("/livez")).json() == {"status": "alive"}
    assert await (await client.get("/readyz")).json() == {"status": "ready"}
    verbose = await (await client.get("/readyz?verbose")).json()
    assert [check["name"] for check in verbose["checks"]] == ["drain", "store"]
    world.checks[0] = ("drain", False, "draining since 5 s")
    assert "draining" not in (await problem(await client.get("/readyz"), 503))["detail"]
    told = await problem(await client.get("/readyz?verbose"), 503)
    assert told["checks"][0] == {"name": "drain", "ok": False, "why": "draining since 5 s"}
    assert (await client.get("/livez")).status == 200


async def test_metrics_are_open_to_this_machine_only(world: World, operations: Client) -> None:
    response = await operations.get("/metrics")
    assert "heiwa_things_total 1.0" in await response.text()
    assert response.content_type == "text/plain"
    proxied = await operations.get("/metrics", headers={"X-Forwarded-For": "203.0.113.7"})
    await problem(proxied, 401)
    closed = await world.client(build_operations, open_metrics=False)
    await problem(await closed.get("/metrics"), 401)
    await problem(await closed.get("/metrics", headers=bearer("device:read")), 403)
    assert (await closed.get("/metrics", headers=bearer("metrics:read"))).status == 200


async def test_paths_and_methods_that_do_not_exist(public: Client, operations: Client) -> None:
    await problem(await public.get("/nothing"), 404)
    response = await public.get("/api/v1/locations")
    assert "POST" in (await problem(response, 405))["detail"]
    assert response.headers["Allow"] == "POST"
    response = await operations.delete("/api/v1/locations/search")
    await problem(response, 405)
    assert response.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/devices", "/api/v1/locations/search", "/api/v1/openapi.json"])
async def test_the_public_listener_serves_nothing_of_the_operators(public: Client, path: str) -> None:
    await problem(await public.get(path, headers=bearer("admin")), 404)


async def test_head_is_served_where_get_is(operations: Client) -> None:
    response = await operations.head("/livez")
    assert response.status == 200
    assert await response.read() == b""


async def test_every_answer_has_the_headers(operations: Client) -> None:
    for path in ("/livez", "/api/v1/openapi.json", "/metrics", "/nothing"):
        response = await operations.get(path)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Server"] == "heiwa"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


async def test_a_broken_compressed_body_is_a_problem(public: Client) -> None:
    headers = bearer("location:write") | JSON | {"Content-Encoding": "gzip"}
    url = public.make_url("/api/v1/locations")
    async with ClientSession(auto_decompress=False) as session:
        response = await session.post(url, data=b"not gzip at all", headers=headers)
        await problem(response, 400)
