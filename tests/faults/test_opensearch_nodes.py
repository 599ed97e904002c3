"""Nodes that refuse by their settings, or are killed, stopped and frozen: what was acknowledged is there, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.errors import IndexBusyError
from gateway.locations.event import DAY_MS
from gateway.locations.query import Query
from loadtest.opensearch.node import Node
from tests.support.ingest import Ingest, make
from tests.support.opensearch import ask, started

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]
EVENTS = 20_000


@pytest.fixture
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    """A node of the test's own, with the settings of its parameter."""
    made = Node(tmp_path / "node", settings=getattr(request, "param", {}))
    yield started(made)
    made.forget()


@pytest.fixture
async def ingest(node: Node, tmp_path: Path) -> AsyncIterator[Ingest]:
    made = await make(node.url, tmp_path)
    yield made
    await made.stop()


async def finished(ingest: Ingest) -> None:
    """Everything is where it was told to be."""
    await ingest.drained(120)
    account = await asyncio.to_thread(ingest.account)
    assert account["lost"] == account["dead"] == account["refused"] == 0
    assert account["indexed"] == len(ingest.sent)


@pytest.mark.parametrize("node", [{"node.processors": "1", "thread_pool.write.queue_size": "1"}], indirect=True)
async def test_items_are_refused_with_429(node: Node, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch, warm=False)
    # Items of one request are refused one by one only where they go to several shards.
    settings = {"settings": {"number_of_shards": 3}}
    await asyncio.to_thread(ask, f"{node.url}/{ingest.index_name}", "PUT", settings)
    for _ in range(4):
        await ingest.send(EVENTS // 4)
    assert ingest.told["firehose"] > 0
    assert ingest.told["indexed"] > 0
    await finished(ingest)


@pytest.mark.parametrize("node", [{"indexing_pressure.memory.limit": "250kb"}], indirect=True)
async def test_whole_requests_are_refused_with_429(node: Node, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch)
    for _ in range(4):
        await ingest.send(EVENTS // 10)
    assert ingest.told["firehose"] > 0
    await finished_by_stream_alone(ingest)


async def finished_by_stream_alone(ingest: Ingest) -> None:
    """The node goes on refusing what is large; Firehose sends less at once."""
    await ingest.drained(120)
    account = await asyncio.to_thread(ingest.account)
    assert account["lost"] == account["dead"] == 0


@pytest.mark.parametrize("node", [{"http.max_content_length": "64kb"}], indirect=True)
async def test_large_requests_are_refused_with_413(node: Node, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch, patient=True)
    await ingest.send(EVENTS // 10)
    assert set(ingest.told) == {"indexed"}
    await finished(ingest)


@pytest.mark.parametrize("end", ["kill", "stop"])
@pytest.mark.parametrize("firehose", [True, False])
async def test_the_node_ends_and_comes_back(
    node: Node, ingest: Ingest, end: str, firehose: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingest.start(monkeypatch, firehose=firehose)
    sending = asyncio.create_task(ingest.send(EVENTS))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(getattr(node, end))
    await sending
    await ingest.send(EVENTS // 10)
    await asyncio.to_thread(node.start)
    await ingest.send(EVENTS // 10)
    assert ingest.told["firehose" if firehose else "spooled"] > 0
    await finished(ingest)


async def test_the_node_freezes_and_goes_on(node: Node, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch)
    sending = asyncio.create_task(ingest.send(EVENTS))
    await asyncio.sleep(0.3)
    node.freeze()
    await sending
    node.thaw()
    await ingest.send(EVENTS // 10)
    await finished(ingest)


@pytest.mark.parametrize(
    "node",
    [{"node.processors": "1", "thread_pool.search.size": "1", "thread_pool.search.queue_size": "6"}],
    indirect=True,
)
async def test_searches_that_the_node_refuses_are_busy_and_never_a_part_of_the_answer(
    node: Node, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingest.start(monkeypatch)
    await ingest.send(EVENTS)
    await finished(ingest)
    for _ in range(2):
        # A search goes to a shard of each day: some of them may have room when others have not.
        ingest.now_ms -= DAY_MS
        await ingest.send(200)
        await asyncio.to_thread(ask, f"{node.url}/{ingest.index_name}/_refresh", "POST")
    ingest.index._recent.add((), float("inf"))
    whole = Query(limit=1000, device="d%1")
    right = len((await ingest.index.search("a:b", whole))[0])
    answers = await asyncio.gather(*(ingest.index.search("a:b", whole) for _ in range(200)), return_exceptions=True)
    busy = [answer for answer in answers if isinstance(answer, IndexBusyError)]
    found = [len(answer[0]) for answer in answers if not isinstance(answer, BaseException)]
    assert len(busy) + len(found) == 200, answers
    assert busy
    assert all(error.retry_after_s > 0 for error in busy)
    assert set(found) <= {right}
