"""Client CPU a document on the way into a real OpenSearch: ours with everything, beside opensearch-py's helper.

`python -m loadtest.bench.bulk [--documents 100000] [--rounds 3]`. Ours is the whole pipeline behind the sockets:
batches, encoding, classification of every item, latest positions, acknowledgements and accounts. Neither side uses
gzip.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from gateway.adapters.clock import SystemClock
from gateway.adapters.dead_letters import DeadLetterFile
from gateway.adapters.opensearch.cluster import Cluster
from gateway.adapters.opensearch.connection import Access, Connection
from gateway.adapters.opensearch.definitions import Names
from gateway.adapters.opensearch.index import OpenSearchLocationIndex
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.app.location_parts import limits
from gateway.locations.event import LocationEvent
from gateway.locations.pipeline import LocationPipeline
from gateway.settings.model import Locations
from loadtest.opensearch.install import MissingError
from loadtest.opensearch.node import Node
from loadtest.opensearch.writers import document

MESSAGE_EVENTS = 20
DEVICES = 200
CHUNK = 1000
# Enough to keep the node busy, and few enough that nothing is refused.
PENDING = 8 * CHUNK


class _Count:
    """The Outcomes of everything: how much is settled."""

    def __init__(self) -> None:
        self.stored = self.refused = 0
        self.changed = asyncio.Event()

    def acknowledge(self, sender: Any, events: Sequence[LocationEvent], durability: Any) -> None:
        self.stored += len(events)
        self.changed.set()

    def refuse(self, sender: Any, ids: Sequence[str], refusal: Any) -> None:
        self.refused += len(ids)
        self.changed.set()

    def resume(self, sender: Any) -> None:
        """It paces itself."""


def messages(documents: int, tag: str) -> list[tuple[str, list[LocationEvent]]]:
    """As devices send them, decoded."""
    now_ms = int(time.time() * 1000)
    return [
        (
            f"device-{number % DEVICES}",
            [
                LocationEvent(f"{tag}-{number:06d}-{k:02d}", now_ms + number, 35.6895123, 139.7671234, 5.0, None, 1.25)
                for k in range(MESSAGE_EVENTS)
            ],
        )
        for number in range(documents // MESSAGE_EVENTS)
    ]


async def ours(url: str, prefix: str, documents: int, tag: str, folder: Path) -> tuple[float, float]:
    """CPU µs a document, and documents a second."""
    clock, random = SystemClock(), Random(1)
    index = OpenSearchLocationIndex(Access(url), prefix, clock, random)
    spool = SQLiteSpool(folder / f"{tag}.db", 1 << 30)
    await index.open()
    await spool.open()
    letters = DeadLetterFile(folder / "dead.jsonl", clock)
    batches = limits(Locations(opensearch_url=url))
    pipeline = LocationPipeline(index, spool, letters, clock, random, limits=batches)
    await pipeline.start()
    sent = messages(documents, tag)
    told = _Count()
    began_cpu_s, began_s = time.process_time(), time.perf_counter()
    taken = 0
    for device, events in sent:
        pipeline.submit(told, device, "bench", device, events)
        taken += len(events)
        while taken - told.stored - told.refused > PENDING:
            told.changed.clear()
            await told.changed.wait()
    while told.stored + told.refused < taken:
        told.changed.clear()
        await told.changed.wait()
    cpu_s, took_s = time.process_time() - began_cpu_s, time.perf_counter() - began_s
    await pipeline.stop(5)
    await index.close()
    await spool.close()
    if told.stored != documents or spool.events:
        raise RuntimeError(f"{told.stored} of {documents} were stored, {spool.events} spooled")
    return cpu_s / documents * 1e6, documents / took_s


async def helper(url: str, prefix: str, documents: int, tag: str) -> tuple[float, float]:
    """The same for `async_bulk`, two at a time."""
    from opensearchpy import AsyncOpenSearch
    from opensearchpy.helpers import async_bulk

    sent = messages(documents, tag)
    flat = [(device, event) for device, events in sent for event in events]
    async with AsyncOpenSearch(url) as client:
        await client.info()
        began_cpu_s, began_s = time.process_time(), time.perf_counter()

        async def half(part: Sequence[tuple[str, LocationEvent]]) -> None:
            actions = (document(prefix, device, event, own_id=True) for device, event in part)
            await async_bulk(client, actions, chunk_size=CHUNK)

        await asyncio.gather(half(flat[::2]), half(flat[1::2]))
        cpu_s, took_s = time.process_time() - began_cpu_s, time.perf_counter() - began_s
    return cpu_s / documents * 1e6, documents / took_s


async def measure(documents: int, rounds: int) -> dict[str, float]:
    """Medians. Raises MissingError, RuntimeError."""
    seen: dict[str, list[tuple[float, float]]] = {"heiwa": [], "async_bulk": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        node = Node(folder / "node")
        await asyncio.to_thread(node.start)
        try:
            connection = Connection(Access(node.url))
            await Cluster(connection, Names("bench"), 30).init()
            await connection.close()
            await ours(node.url, "bench", 20_000, "warm", folder)
            for number in range(rounds):
                seen["heiwa"].append(await ours(node.url, "bench", documents, f"o{number}", folder))
                seen["async_bulk"].append(await helper(node.url, "bench", documents, f"h{number}"))
        finally:
            await asyncio.to_thread(node.stop)
    found: dict[str, float] = {}
    for kind, rows in seen.items():
        found[f"{kind}_us"] = statistics.median(row[0] for row in rows)
        found[f"{kind}_per_s"] = statistics.median(row[1] for row in rows)
    return {**found, "ratio": found["async_bulk_us"] / found["heiwa_us"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    try:
        found = asyncio.run(measure(arguments.documents, arguments.rounds))
    except MissingError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
