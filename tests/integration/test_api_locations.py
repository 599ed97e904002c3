"""Storing and searching locations through real HTTP, on fakes of what stands behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from gateway.api.application import build_operations, build_public
from gateway.api.http_protocol import HttpListener
from gateway.api.http_rates import HttpRates
from gateway.errors import QueryError, StoreError
from gateway.locations.query import Page, Query
from tests.support.api import JSON, Client, FakeClock, World, bearer, event, problem

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


async def test_of_one_id_the_first_event_counts(world: World, public: Client) -> None:
    events = [event("a", lat=1.0), event("b"), event("a", lat=2.0), event("a", lat=3.0)]
    response = await public.post("/api/v1/locations", json={"events": events}, headers=bearer("location:write"))
    assert response.status == 200
    assert [(one.id, one.lat) for one in world.pipeline.given] == [("a", 1.0), ("b", 35.0)]


@pytest.mark.parametrize("bad", [b'"\\ud800"', b'"\xff"', b'"a\\udc00"'])
@pytest.mark.parametrize("kind", [b"", b'"type":"locations",'])
async def test_text_that_is_not_unicode_costs_only_its_event(
    world: World, public: Client, bad: bytes, kind: bytes
) -> None:
    spoiled = json.dumps(event("bad", attributes={"n": "?"})).encode().replace(b'"?"', bad)
    payload = b'{%s"events":[%s,%s]}' % (kind, json.dumps(event("a")).encode(), spoiled)
    response = await public.post("/api/v1/locations", data=payload, headers=bearer("location:write") | JSON)
    assert response.status == 200
    body = await response.json()
    assert [ack["ids"] for ack in body["acks"] if ack["ids"]] == [["a"]]
    ((nack),) = body["nacks"]
    assert (nack["ids"], nack["code"]) == (["bad"], "invalid")
    assert "$.events[1].attributes.n" in nack["message"]


async def test_only_bad_events_never_reach_the_pipeline(world: World, public: Client) -> None:
    body = {"type": "locations", "events": [event("a", lon="x")]}
    response = await public.post("/api/v1/locations", json=body, headers=bearer("location:write"))
    assert [nack["ids"] for nack in (await response.json())["nacks"]] == [["a"]]
    assert world.pipeline.forgotten == 0


async def test_a_device_that_is_too_fast_waits_and_others_do_not(world: World, public: Client) -> None:
    async def post(device: str, events: int) -> Any:
        body = {"events": [event(f"{device}-{number}") for number in range(events)]}
        return await public.post("/api/v1/locations", json=body, headers=bearer("location:write", device=device))

    statuses = [(await post("fast", 20)).status for _ in range(30)]
    assert statuses[:25] == [200] * 25
    assert statuses[26:] == [429] * 4
    refused = await post("fast", 1)
    assert "sends more" in (await problem(refused, 429))["detail"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert (await post("other", 1)).status == 200
    assert len(world.pipeline.stored) < 30 * 20


async def test_many_connections_of_a_device_have_one_rate(world: World, public: Client) -> None:
    body = {"events": [event(f"e-{number}") for number in range(30)]}

    async def post() -> int:
        return (await public.post("/api/v1/locations", json=body, headers=bearer("location:write"))).status

    statuses = await asyncio.gather(*(post() for _ in range(40)))
    assert statuses.count(200) <= 500 // 30 + 2
    assert statuses.count(200) + statuses.count(429) == 40


async def test_bytes_are_work_as_well(world: World, public: Client) -> None:
    client = await world.client(build_public, max_message_bytes=200_000, rates=HttpRates(0, 1, 100_000, 200_000))
    body = json.dumps({"events": [event("a")], "padding": "x" * 150_000}).encode()
    headers = bearer("location:write") | JSON
    statuses = [(await client.post("/api/v1/locations", data=body, headers=headers)).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_bodies_that_come_slowly_at_the_same_time_are_judged_when_they_are_there(
    world: World, public: Client
) -> None:
    body = json.dumps({"events": [event(f"e-{number}") for number in range(400)]}).encode()[:-1]
    world.api = replace(world.api, max_message_bytes=200_000)
    client = await world.client(build_public)
    begun, go = asyncio.Semaphore(0), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield body
        begun.release()
        await go.wait()
        yield b"}"

    async def post() -> int:
        headers = bearer("location:write") | JSON
        return (await client.post("/api/v1/locations", data=slow(), headers=headers)).status

    posts = [asyncio.create_task(post()) for _ in range(8)]
    for _ in posts:
        await begun.acquire()
    go.set()
    statuses = await asyncio.gather(*posts)
    assert statuses.count(200) <= 3
    assert set(statuses) == {200, 429}


async def test_bad_events_are_work_as_well(world: World, public: Client) -> None:
    body: dict[str, Any] = {"events": [{}] * 500}
    statuses = [
        (await public.post("/api/v1/locations", json=body, headers=bearer("location:write"))).status for _ in range(3)
    ]
    assert statuses == [200, 200, 429]


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


async def test_a_search_ends_when_nobody_waits_for_it(world: World) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def search(account: str, query: Query) -> Page:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    world.search.search = search  # type: ignore[method-assign]
    runner = web.AppRunner(build_operations(replace(world.api, deadline_s=60.0)), shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    listener = HttpListener("operations", runner.server, FakeClock())
    server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(10):
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            asked = "".join(f"{name}: {value}\r\n" for name, value in bearer("location:read").items())
            writer.write(f"GET /api/v1/locations/search HTTP/1.1\r\nHost: a\r\n{asked}\r\n".encode())
            await begun.wait()
            writer.close()
            await ended.wait()
    finally:
        server.close()
        await runner.cleanup()


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
    # A store that is away says so in a line, to each of many requests.
    assert ("Traceback" in caplog.text) == (status == 500)
