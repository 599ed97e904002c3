"""Who may ask, what every answer has, health and metrics, and what does not exist."""

import threading
from collections.abc import Callable, Iterator

import pytest
from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

from gateway.api.application import build_operations, build_public
from gateway.api.context import Api
from tests.support.api import JSON, Client, World, bearer, problem


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
    for name in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP", "x-real-ip"):
        proxied = await operations.get("/metrics", headers={name: "203.0.113.7"})
        await problem(proxied, 401)
    for host in (
        "evil.example",
        "evil.example:8081",
        "10.0.0.1",
        "127.0.0.1.evil.example",
        "[2001:db8::1]:1",
        "0",
        "::",
    ):
        await problem(await operations.get("/metrics", headers={"Host": host}), 401)
    for host in ("localhost", "LocalHost:8081", "127.0.0.1", "127.1.2.3:1", "[::1]:8081", "[::ffff:127.0.0.1]"):
        assert (await operations.get("/metrics", headers={"Host": host})).status == 200
    closed = await world.client(build_operations, open_metrics=False)
    await problem(await closed.get("/metrics"), 401)
    await problem(await closed.get("/metrics", headers=bearer("device:read")), 403)
    assert (await closed.get("/metrics", headers=bearer("metrics:read"))).status == 200


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=x;escaping",
        "application/openmetrics-text;version=1.0.0;q=0",
        "application/openmetrics-text;version=2.0.0",
        "text/plain;version=1.0.0\t;escaping=allow-utf-8",
        ";=;;,,=,\t;",
        "*/*;q=nonsense",
        "application/json",
        "",
        "," * 4000,
    ],
)
async def test_an_accept_header_that_is_odd_gets_text(operations: Client, accept: str) -> None:
    response = await operations.get("/metrics", headers={"Accept": accept})
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_are_collected_on_the_loop_and_written_off_it(
    world: World, operations: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, threading.Thread] = {}

    class Watching:
        def collect(self) -> Iterator[Metric]:
            seen["collected"] = threading.current_thread()
            return iter(())

    def write(registry: CollectorRegistry) -> bytes:
        seen["written"] = threading.current_thread()
        return generate_latest(registry)

    world.registry.register(Watching())
    monkeypatch.setattr("prometheus_client.exposition.generate_latest", write)
    assert (await operations.get("/metrics")).status == 200
    assert seen["collected"] is threading.current_thread()
    assert seen["written"] is not threading.current_thread()


async def test_open_metrics_for_who_asks(operations: Client) -> None:
    prometheus = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.1"
    )
    for accept in (prometheus, "application/openmetrics-text", "Application/OpenMetrics-Text; version=1.0.0"):
        response = await operations.get("/metrics", headers={"Accept": accept})
        assert response.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert (await response.text()).endswith("# EOF\n")


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
