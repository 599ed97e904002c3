"""Overflow to Firehose, by the real SDK into the stand-in, and from there into a real OpenSearch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import json

from gateway.adapters.aws.firehose import FirehoseStream
from gateway.adapters.clock import SystemClock
from gateway.adapters.opensearch.definitions import Names
from gateway.locations.batch import DeviceEvents, count
from gateway.locations.packing import FIREHOSE_RECORDS
from loadtest.cloud.firehose import MAX_RECORDS, DeliveryStream
from loadtest.cloud.firehose_endpoint import FirehoseEndpoint
from loadtest.cloud.listening import caller
from loadtest.opensearch.node import Node
from tests.support.locations import NOON_MS, ManualClock, event
from tests.support.opensearch import documents, index_on

NAME = "overflow"


@pytest.fixture
async def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FirehoseEndpoint]:
    made = FirehoseEndpoint("http://127.0.0.1:9", tmp_path)
    made.paused = True
    made.firehose.add(DeliveryStream(NAME, "none"))
    await made.start()
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    await made.stop()


@pytest.fixture
async def stream(endpoint: FirehoseEndpoint) -> AsyncIterator[FirehoseStream]:
    made = FirehoseStream(NAME, SystemClock(), Random(1), environment=endpoint.environment)
    await made.open()
    yield made
    await made.close()


def batch(number: int, device: str = "d") -> list[DeviceEvents]:
    return [DeviceEvents("a", device, [event(f"e{k}", NOON_MS + k) for k in range(number)])]


async def test_records_are_packed_and_arrive_as_they_are(endpoint: FirehoseEndpoint, stream: FirehoseStream) -> None:
    assert FIREHOSE_RECORDS == MAX_RECORDS
    assert not await stream.put(batch(1201))
    assert endpoint.requests["PutRecordBatch"] == 3
    records = [json.decode(record.data) for record in endpoint.firehose.streams[NAME].buffered]
    assert [record["id"] for record in records] == [f"e{k}" for k in range(1201)]
    assert records[0]["document_id"] == "a:d:e0"


async def test_only_what_failed_is_sent_again(endpoint: FirehoseEndpoint, stream: FirehoseStream) -> None:
    found = endpoint.firehose.streams[NAME]
    found.failing = 0.4
    rejections = await stream.put(batch(400))
    assert len(rejections) + found.taken == 400
    assert 0 < len(rejections) < 100
    names = [json.decode(record.data)["id"] for record in found.buffered]
    assert len(set(names)) == len(names)
    assert {f"e{position}" for position in rejections} == {f"e{k}" for k in range(400)} - set(names)


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b"5",
        b"<html>",
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"__type":5}',
        b'{"__type":null,"message":7}',
        b'{"FailedPutCount":0,"RequestResponses":[5]}',
        b'{"FailedPutCount":0,"RequestResponses":[null]}',
        b'{"FailedPutCount":0,"RequestResponses":{"a":1}}',
    ],
    ids=lambda body: body[:50].decode("latin-1"),
)
async def test_whatever_stands_in_the_way_takes_no_record_and_makes_no_dead_letter(
    body: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, body=body, content_type="application/x-amz-json-1.1")

    async with TestServer(_anywhere(answer)) as server:
        environment = caller(firehose=str(server.make_url("/")))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        stream = FirehoseStream(NAME, SystemClock(), Random(1), environment=environment)
        rejections = await stream.put(batch(3))
        await stream.close()
    assert len(rejections) == 3
    assert not any(rejection.poison for rejection in rejections.values())


def _anywhere(answer: Callable[[web.Request], Awaitable[web.Response]]) -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    return application


@pytest.mark.parametrize("failure", ["ServiceUnavailableException", "ResourceNotFoundException", "refuse"])
async def test_a_stream_that_fails_is_left_alone(
    endpoint: FirehoseEndpoint, stream: FirehoseStream, failure: str
) -> None:
    endpoint.fail_with = failure
    for _ in range(3):
        rejections = await stream.put(batch(10))
        assert len(rejections) == 10
        assert not any(rejection.overflow or rejection.poison for rejection in rejections.values())
    assert endpoint.requests["PutRecordBatch"] == 1


async def test_what_exceeds_the_quota_is_not_sent(endpoint: FirehoseEndpoint) -> None:
    stream = FirehoseStream(NAME, ManualClock(), Random(1), 40_000, endpoint.environment)
    first, second = await stream.put(batch(200)), await stream.put(batch(200))
    await stream.close()
    assert not first
    assert len(second) == 200
    assert endpoint.requests["PutRecordBatch"] == 1


@pytest.mark.parametrize("document_id", ["NO_DOCUMENT_ID", "FIREHOSE_DEFAULT"])
@pytest.mark.parametrize("first", ["direct", "stream"])
async def test_both_ways_end_in_one_document(
    opensearch: Node, endpoint: FirehoseEndpoint, stream: FirehoseStream, document_id: str, first: str
) -> None:
    """Late, doubled and out of order, before and after the direct copy."""
    async with index_on(opensearch.url) as index:
        endpoint.opensearch_url = opensearch.url
        found = endpoint.firehose.streams[NAME]
        prefix = index._names.prefix
        found.index, found.document_id = Names(prefix).overflow, document_id
        found.doubled, found.shuffled = 0.5, True
        groups = [group for device in ("d", "d:1", "%", "é\x00") for group in batch(60, device)]
        ways = [index.write, stream.put] if first == "direct" else [stream.put, index.write]
        for way in ways:
            assert not await way(groups)
            await endpoint.flush()
        assert not await stream.put(groups)
        await endpoint.flush()
        assert found.delivered >= 3 * count(groups) - count(groups)
        stored = await asyncio.to_thread(documents, opensearch.url, prefix)
        assert sorted((one["device"], one["id"]) for one in stored.values()) == sorted(
            (group.device, one.id) for group in groups for one in group.events
        )


async def test_what_is_no_record_of_ours_comes_back_as_a_failure_object(
    opensearch: Node, endpoint: FirehoseEndpoint, tmp_path: Path
) -> None:
    async with index_on(opensearch.url) as index:
        endpoint.opensearch_url = opensearch.url
        found = endpoint.firehose.streams[NAME]
        found.index, found.retry_s = Names(index._names.prefix).overflow, 0.0
        body = {"DeliveryStreamName": NAME, "Records": [{"Data": "e30="}]}
        assert endpoint.firehose.answer("PutRecordBatch", body)["FailedPutCount"] == 0
        await endpoint.flush()
    (path,) = (tmp_path / "AmazonOpenSearchService_failed").iterdir()
    line = json.decode(path.read_bytes())
    assert line["rawData"] == "e30="
    assert "not a record of heiwa" in line["errorMessage"]
