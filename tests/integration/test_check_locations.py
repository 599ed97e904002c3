"""`heiwa check` on OpenSearch and Firehose: what is missing, what is wrong, and how to mend it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.adapters.clock import SystemClock
from gateway.adapters.opensearch import definitions
from gateway.adapters.opensearch import index as index_module
from gateway.adapters.opensearch.connection import Access
from gateway.adapters.opensearch.definitions import VERSION, Names
from gateway.adapters.opensearch.index import OpenSearchLocationIndex
from gateway.cli import check
from gateway.cli.check_locations import judge_stream
from gateway.cli.result import Result
from gateway.drain import outlook
from gateway.errors import ClusterError
from gateway.locations import congestion
from gateway.locations.batch import DeviceEvents
from gateway.settings.load import load
from loadtest.cloud.firehose import DeliveryStream
from loadtest.cloud.firehose_endpoint import FirehoseEndpoint
from loadtest.opensearch.node import Node
from tests.support.locations import ManualClock, event
from tests.support.opensearch import ask, delete, initialise, new_prefix


async def lines(folder: Path, *flags: str) -> dict[str, Result]:
    settings = load(Path("/dev/null"), {}, [f"data.folder={folder}", *flags]).settings
    results = await asyncio.to_thread(check.run, settings)
    return {
        result.name: result for result in results if result.name.startswith(("locations", "opensearch", "firehose"))
    }


async def test_the_embedded_index_is_named_and_behind_a_target_group_warned_of(tmp_path: Path) -> None:
    found = await lines(tmp_path)
    assert found["locations.opensearch_url"].verdict == outlook.GOOD
    arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef"
    found = await lines(tmp_path, f"drain.target_group_arns={arn}", "drain.enabled=false")
    assert found["locations.opensearch_url"].verdict == outlook.WARN


async def test_a_cluster_before_and_after_it_is_set_up(opensearch: Node, tmp_path: Path) -> None:
    prefix = new_prefix()
    flags = (f"locations.opensearch_url={opensearch.url}", f"locations.index_prefix={prefix}")
    before = await lines(tmp_path, *flags)
    assert "heiwa init opensearch" in before["opensearch index template"].mend
    assert before["opensearch ingest pipeline"].verdict == outlook.BAD
    await initialise(opensearch.url, prefix)
    after = await lines(tmp_path, *flags)
    assert {name for name, result in after.items() if result.verdict == outlook.BAD} == set()
    # This node has no plugin for it.
    assert {name for name, result in after.items() if result.verdict == outlook.WARN} == {"opensearch retention"}
    assert "3." in after["opensearch version"].found
    assert after["opensearch write"].verdict == after["opensearch search"].verdict == outlook.GOOD
    # Deleted under a gateway, whose next write made it again.
    latest = f"{opensearch.url}/{prefix}-latest"
    await asyncio.to_thread(ask, latest, "DELETE")
    await asyncio.to_thread(ask, f"{latest}/_doc/1", "PUT", {"account": "a", "location": [139.0, 35.0]})
    guessed = (await lines(tmp_path, *flags))[f"opensearch index {prefix}-latest"]
    assert (guessed.verdict, guessed.found) == (outlook.WARN, "has other fields than ours: account is text")
    name = f"{prefix}-2026.01.01"
    await asyncio.to_thread(ask, f"{opensearch.url}/{name}", "PUT", {"settings": {"index.final_pipeline": "x"}})
    assert f"opensearch index {name}" not in await lines(tmp_path, *flags)
    assert name in (await lines(tmp_path, *flags))["opensearch final pipeline"].found
    await asyncio.to_thread(delete, opensearch.url, prefix)


@pytest.mark.parametrize("said", [{"x": 1}, {"index_templates": []}, {"index_templates": [{"index_template": 5}]}, [1]])
async def test_who_answers_in_another_shape_is_not_opensearch(said: Any, tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/":
            return web.json_response({"version": {"number": "3.1.0", "distribution": "opensearch"}})
        return web.json_response(said)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        found = (await lines(tmp_path, f"locations.opensearch_url={url}"))["locations.opensearch_url"]
        assert (found.verdict, "is not OpenSearch" in found.found) == (outlook.BAD, True)
        index = OpenSearchLocationIndex(Access(url), "locations", SystemClock(), Random(1))
        with pytest.raises(ClusterError):
            await index.open()
        # Nothing of it is a dead letter.
        ((_, rejection),) = (await index.write([DeviceEvents("a", "d", [event()])])).items()
        assert not rejection.poison
        await index.close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_cluster_behind_a_proxy_that_finds_it_away_is_no_reason_not_to_start(status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text="no server is available")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        index = OpenSearchLocationIndex(Access(url), "locations", SystemClock(), Random(1), another_way=True)
        await index.open()
        ((_, rejection),) = (await index.write([DeviceEvents("a", "d", [event()])])).items()
        assert rejection.overflow
        await index.close()


async def test_a_cluster_that_hangs_is_not_waited_for_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "OPEN_S", 0.05)
    asked, free = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        asked.set()
        await free.wait()
        return web.Response(status=404)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        access = Access(str(server.make_url("")).rstrip("/"), timeout_s=600)
        index = OpenSearchLocationIndex(access, "locations", SystemClock(), Random(1))
        async with asyncio.timeout(30):
            await index.open()
        assert asked.is_set()
        free.set()
        # It is looked at before anything is written.
        ((_, rejection),) = (await index.write([DeviceEvents("a", "d", [event()])])).items()
        assert "is not OpenSearch" in rejection.reason
        await index.close()


async def test_while_the_template_is_known_to_be_missing_nothing_may_go_by_the_stream(
    opensearch: Node,
) -> None:
    prefix = new_prefix()
    await initialise(opensearch.url, prefix)
    index = OpenSearchLocationIndex(Access(opensearch.url), prefix, clock := ManualClock(), Random(1), another_way=True)
    await index.open()
    await asyncio.to_thread(ask, f"{opensearch.url}/_index_template/{prefix}", "DELETE")
    assert index.pace.stream
    assert len(await index.write([DeviceEvents("a", "d", [event()])])) == 1
    assert not index.pace.stream
    await initialise(opensearch.url, prefix)
    clock.now_s += congestion.PROBE_EVERY_S
    assert not await index.write([DeviceEvents("a", "d", [event()])])
    assert index.pace.stream
    await index.close()
    await asyncio.to_thread(delete, opensearch.url, prefix)


async def test_a_cluster_without_room_for_new_days_is_told(tmp_path: Path) -> None:
    shards = {"active_shards": 80, "unassigned_shards": 15, "initializing_shards": 0, "number_of_data_nodes": 2}
    limit = {"max_shards_per_node": "60"}

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/":
            return web.json_response({"version": {"number": "3.1.0", "distribution": "opensearch"}})
        if request.path == "/_cluster/health":
            return web.json_response(shards)
        if request.path == "/_cluster/settings":
            return web.json_response({"transient": {"cluster": limit}, "defaults": {"cluster": {"x": 1}}})
        return web.json_response({}, status=404)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        flags = (f"locations.opensearch_url={server.make_url('')}".rstrip("/"),)
        well = (await lines(tmp_path, *flags))["opensearch shards"]
        assert (well.verdict, well.found) == (outlook.GOOD, "95 of 120 that the cluster may hold")
        limit["max_shards_per_node"] = "50"
        full = (await lines(tmp_path, *flags))["opensearch shards"]
        assert full.verdict == outlook.WARN
        assert "max_shards_per_node" in full.mend


async def test_fields_that_were_changed_or_guessed_are_told(opensearch: Node, tmp_path: Path) -> None:
    prefix = new_prefix()
    flags = (f"locations.opensearch_url={opensearch.url}", f"locations.index_prefix={prefix}")
    await initialise(opensearch.url, prefix)
    template = definitions.template(Names(prefix))
    template["template"]["settings"]["index"]["number_of_shards"] = "3"
    url = f"{opensearch.url}/_index_template/{prefix}"
    await asyncio.to_thread(ask, url, "PUT", template)
    assert (await lines(tmp_path, *flags))["opensearch index template"].verdict == outlook.GOOD
    mappings = template["template"]["mappings"]
    template["template"]["mappings"] = {**mappings, "properties": {**mappings["properties"], "time": {"type": "long"}}}
    await asyncio.to_thread(ask, url, "PUT", template)
    await asyncio.to_thread(ask, f"{opensearch.url}/{prefix}-2026.01.02", "PUT")
    await initialise(opensearch.url, prefix)
    found = await lines(tmp_path, *flags)
    assert found["opensearch index template"].verdict == outlook.GOOD
    day = found[f"opensearch index {prefix}-2026.01.02"]
    assert (day.verdict, day.found) == (outlook.WARN, "has other fields than ours: time is long")
    await asyncio.to_thread(ask, url, "PUT", template)
    changed = (await lines(tmp_path, *flags))["opensearch index template"]
    assert changed.verdict == outlook.BAD
    assert "init" in changed.mend
    await asyncio.to_thread(delete, opensearch.url, prefix)


async def test_what_a_newer_program_has_added_to_is_good_and_left_alone(opensearch: Node, tmp_path: Path) -> None:
    prefix = new_prefix()
    flags = (f"locations.opensearch_url={opensearch.url}", f"locations.index_prefix={prefix}")
    await initialise(opensearch.url, prefix)
    url = f"{opensearch.url}/_index_template/{prefix}"
    for version, verdict in ((VERSION + 1, outlook.GOOD), (100, outlook.BAD)):
        template = definitions.template(Names(prefix)) | {"version": version}
        await asyncio.to_thread(ask, url, "PUT", template)
        await initialise(opensearch.url, prefix)
        found = (await lines(tmp_path, *flags))["opensearch index template"]
        assert found.verdict == verdict
        assert f"version {version}" in found.found
        assert "init" not in found.mend
    await asyncio.to_thread(delete, opensearch.url, prefix)


OTHERS: list[tuple[int, Any, str]] = [
    (200, {"version": {"number": "8.15.0"}, "tagline": "You Know, for Search"}, "Elasticsearch 8.15.0"),
    (200, {"version": {"number": "1.3.2", "distribution": "opensearch"}}, "OpenSearch 1.3.2"),
    (200, {"hello": "world"}, "is not OpenSearch"),
    (401, {}, "HTTP 401"),
    (403, {}, "HTTP 403"),
    (503, {}, "HTTP 503"),
]


@pytest.fixture
async def other() -> AsyncIterator[list[Any]]:
    """A server that answers everything with `[status, body]`, and its address as the third."""
    said: list[Any] = [200, {}]

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(said[1], status=said[0])

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    said.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield said
    await runner.cleanup()


@pytest.mark.parametrize(("status", "body", "named"), OTHERS)
async def test_what_is_no_opensearch_of_ours_is_refused_politely(
    other: list[Any], tmp_path: Path, status: int, body: Any, named: str
) -> None:
    other[:2] = [status, body]
    found = (await lines(tmp_path, f"locations.opensearch_url={other[2]}"))["locations.opensearch_url"]
    assert found.verdict == outlook.BAD
    assert named in found.found


async def test_nobody_listens(tmp_path: Path) -> None:
    found = (await lines(tmp_path, "locations.opensearch_url=http://127.0.0.1:9"))["locations.opensearch_url"]
    assert found.verdict == outlook.BAD
    assert "127.0.0.1:9" in found.found


async def test_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = FirehoseEndpoint("http://127.0.0.1:9", tmp_path)
    endpoint.firehose.add(DeliveryStream("good", "locations-overflow"))
    await endpoint.start()
    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)
    url = "locations.opensearch_url=http://127.0.0.1:9"
    found = await lines(tmp_path, url, "locations.firehose_stream=good")
    streams = [result for name, result in found.items() if name.startswith(("firehose", "locations.firehose"))]
    assert {result.verdict for result in streams} == {outlook.GOOD}
    assert len(streams) == 6
    found = await lines(tmp_path, url, "locations.firehose_stream=other")
    assert found["locations.firehose_stream"].verdict == outlook.BAD
    assert "ResourceNotFoundException" in found["locations.firehose_stream"].found
    await endpoint.stop()


def test_what_a_stream_must_not_be() -> None:
    destination = {
        "IndexName": "other",
        "IndexRotationPeriod": "OneDay",
        "BufferingHints": {"IntervalInSeconds": 300, "SizeInMBs": 5},
        "RetryOptions": {"DurationInSeconds": 300},
    }
    stream = {
        "DeliveryStreamStatus": "CREATING",
        "DeliveryStreamType": "KinesisStreamAsSource",
        "Destinations": [{"AmazonopensearchserviceDestinationDescription": destination}],
    }
    results = {result.name: result for result in judge_stream(stream, "locations-overflow")}
    assert all(result.mend for result in results.values())
    assert [result.verdict for result in results.values()] == ["wrong", "wrong", *["warning"] * 3, "wrong"]
    (_, last) = judge_stream({**stream, "Destinations": [{}]}, "locations-overflow")
    assert "not OpenSearch" in last.found
