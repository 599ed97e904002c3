"""Every way in which OpenSearch and Firehose fail, on a real node: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.locations.event import DAY_MS
from gateway.locations.outcome import Durability
from loadtest.opensearch.node import Node
from tests.support.ingest import Ingest, make, remove
from tests.support.opensearch import ask, initialise
from tests.support.search_faults import ROWS, Change, Fault

EVENTS = 1500


@pytest.fixture
async def ingest(opensearch: Node, tmp_path: Path) -> AsyncIterator[Ingest]:
    made = await make(opensearch.url, tmp_path)
    yield made
    await made.stop()
    remove(made)


async def play(ingest: Ingest, breaks: Change, mends: Change) -> None:
    """Half of the events under the fault, then it is mended, then some more."""
    await asyncio.to_thread(breaks, ingest)
    try:
        for _ in range(5):
            await ingest.send(EVENTS // 5)
    finally:
        await asyncio.to_thread(mends, ingest)
    await ingest.send(100)
    await ingest.drained()


# The longest, and those that differ from a neighbour by a number only.
LONG = ("slow, 5 s", "404", "a page with 200", "half an answer", "503")


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name, marks=[pytest.mark.soak] if row.name in LONG else []) for row in ROWS]
)
async def test_nothing_is_lost_or_doubled(ingest: Ingest, row: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch, warm=row.warm, patient=not row.slow)
    await play(ingest, row.breaks, row.mends)
    account = await asyncio.to_thread(ingest.account)
    told = set(ingest.told) - {"indexed"}
    # On a machine with little to spare the stream may be late as well, and then the spool takes it.
    assert row.told <= told <= row.told | {"spooled"}, ingest.told
    assert account["dead"] == account["lost"] == account["refused"] == 0


async def test_nobody_listens(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch, patient=True)
    await ingest.proxy.close()
    await ingest.send(EVENTS)
    await ingest.proxy.start()
    await ingest.drained()
    assert {"firehose"} <= set(ingest.told) <= {"indexed", "firehose", "spooled"}
    assert (await asyncio.to_thread(ingest.account))["indexed"] == len(ingest.sent)


async def test_a_name_that_nobody_knows(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch, patient=True, url="http://nowhere.invalid:9200", warm=False)
    await ingest.send(200)
    assert {"firehose"} <= set(ingest.told) <= {"firehose", "spooled"}
    await ingest.firehose.flush()
    assert (await asyncio.to_thread(ingest.account))["indexed"] == 200


async def test_what_the_mapping_refuses_becomes_a_dead_letter_and_nothing_else(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = {"mappings": {"properties": {"speed": {"type": "boolean"}}}}
    await ingest.start(monkeypatch, patient=True, warm=False)
    await asyncio.to_thread(ask, f"{ingest.node_url}/{ingest.index_name}", "PUT", mapping)
    ingest.submit(300, speed=1.5)
    await ingest.send(300)
    account = await asyncio.to_thread(ingest.account)
    assert account == {"indexed": 300, "dead": 300, "refused": 0, "lost": 0}
    assert ingest.told == {"indexed": 300, "dead_letter": 300}


async def test_no_day_begins_without_the_template(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch, patient=True)
    template = f"{ingest.node_url}/_index_template/{ingest.prefix}"
    await asyncio.to_thread(ask, template, "DELETE")
    # A day that has its index goes on.
    await ingest.send(20)
    assert set(ingest.told) == {"indexed"}
    ingest.now_ms -= DAY_MS
    await ingest.send(100)
    assert ingest.told["spooled"] == 100
    await initialise(ingest.node_url, ingest.prefix)
    await ingest.drained()
    fields = await asyncio.to_thread(ask, f"{ingest.node_url}/{ingest.index_name}/_mapping")
    assert fields[ingest.index_name]["mappings"]["properties"]["location"] == {"type": "geo_point"}
    assert (await asyncio.to_thread(ingest.account))["indexed"] == len(ingest.sent)


FIREHOSE: list[tuple[str, Callable[[Ingest], Awaitable[None]], set[str]]] = []


def firehose(name: str, told: str) -> Callable[[Callable[[Ingest], Awaitable[None]]], None]:
    return lambda breaks: FIREHOSE.append((name, breaks, set(told.split())))


@firehose("partial failures", "firehose")
async def _(ingest: Ingest) -> None:
    ingest.stream.failing = 0.05


@firehose("many failures", "firehose spooled")
async def _(ingest: Ingest) -> None:
    ingest.stream.failing = 0.9


@firehose("throttled", "spooled")
async def _(ingest: Ingest) -> None:
    ingest.firehose.fail_with = "ServiceUnavailableException"


@firehose("no such stream", "spooled")
async def _(ingest: Ingest) -> None:
    ingest.firehose.fail_with = "ResourceNotFoundException"


@firehose("key of the stream", "spooled")
async def _(ingest: Ingest) -> None:
    ingest.firehose.fail_with = "InvalidKMSResourceException"


@firehose("reset", "spooled")
async def _(ingest: Ingest) -> None:
    ingest.firehose.fail_with = "refuse"


@firehose("nobody listens", "spooled")
async def _(ingest: Ingest) -> None:
    await ingest.firehose.close()


@firehose("no answer", "spooled")
async def _(ingest: Ingest) -> None:
    ingest.firehose.fail_with = "hang"


@pytest.mark.parametrize(("name", "breaks", "told"), FIREHOSE, ids=[name for name, _, _ in FIREHOSE])
async def test_both_fail(
    ingest: Ingest,
    name: str,
    breaks: Callable[[Ingest], Awaitable[None]],
    told: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await ingest.start(monkeypatch, patient=True)
    await breaks(ingest)
    ingest.proxy.mode = "429"
    await ingest.send(EVENTS)
    assert set(ingest.told) == {"indexed", *told}, ingest.told
    ingest.proxy.mode = ""
    ingest.firehose.fail_with = ""
    await ingest.firehose.close()
    await ingest.firehose.start()
    await ingest.drained()
    assert (await asyncio.to_thread(ingest.account))["indexed"] == len(ingest.sent)


async def test_both_fail_and_the_spool_is_full(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch, patient=True, spool_max_bytes=64 << 10)
    ingest.firehose.fail_with = "ServiceUnavailableException"
    ingest.proxy.mode = "503"
    for _ in range(5):
        await ingest.send(EVENTS // 5)
    ingest.proxy.mode = ingest.firehose.fail_with = ""
    await ingest.drained()
    account = await asyncio.to_thread(ingest.account)
    assert ingest.told["spool_full"] == account["refused"] > 0
    assert all(retry_ms for _, _, retry_ms in ingest.sender.refused)


@pytest.mark.parametrize(
    ("ack_min", "told"),
    [(Durability.INDEXED, {"index_unavailable"}), (Durability.FIREHOSE, {"firehose", "stream_unavailable"})],
)
async def test_less_durable_than_asked_is_refused(
    ingest: Ingest, ack_min: Durability, told: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingest.start(monkeypatch, patient=True, ack_min=ack_min)
    ingest.proxy.mode = "429"
    await ingest.send(EVENTS // 2)
    ingest.firehose.fail_with = "ServiceUnavailableException"
    await ingest.send(EVENTS // 2)
    ingest.proxy.mode = ingest.firehose.fail_with = ""
    await ingest.drained()
    assert set(ingest.told) == {"indexed", *told}
    assert (await asyncio.to_thread(ingest.account))["lost"] == 0


async def test_without_a_stream_the_spool_takes_its_place(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest.start(monkeypatch, patient=True, firehose=False)
    ingest.proxy.mode = "429"
    await ingest.send(EVENTS)
    ingest.proxy.mode = ""
    await ingest.drained()
    assert set(ingest.told) == {"indexed", "spooled"}
    assert (await asyncio.to_thread(ingest.account))["indexed"] == len(ingest.sent)
