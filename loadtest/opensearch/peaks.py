"""`heiwa-loadtest run peaks`: a day's two peaks into a node that refuses with 429, by every way in use; a loss table.

The node has one writing thread and room for two requests in its queue, and a neighbour fills both at the peaks: so it
refuses the same to all. Between the peaks it is killed and comes back. What is lost and doubled is counted in the
index, event by event.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import ClientError, ClientSession

from gateway.adapters.opensearch.cluster import Cluster
from gateway.adapters.opensearch.connection import Access, Connection
from gateway.adapters.opensearch.definitions import Names
from loadtest.cloud.firehose import DeliveryStream
from loadtest.cloud.firehose_endpoint import FirehoseEndpoint
from loadtest.opensearch.install import MissingError
from loadtest.opensearch.node import Node
from loadtest.opensearch.writers import rate_at

KINDS = {
    "async_bulk": "opensearch-py `async_bulk`, as it comes",
    "async_bulk best": "the same at its best: own ids, `raise_on_error=False`, 5 retries",
    "article": "the article's way: direct, 429 to Firehose, the rest logged",
    "article best": "the same at its best: own ids, whole requests, `FailedPutCount`",
    "ours": "**heiwa**",
}
ABSENT = ("Vector", "Fluent Bit")
REFUSING = {"node.processors": "1", "thread_pool.write.queue_size": "2"}
STREAM = "overflow"
# A neighbour's requests: many at once, each too small to take long.
NEIGHBOURS, NEIGHBOUR_DOCUMENTS = 6, 400
PROBE_EVERY_S = 0.25
DAY_S, PEAK_PER_S = 40.0, 8000.0
# Of the day: between the peaks.
_CRASH_AT = 0.5


class WayResult(NamedTuple):
    """What became of the events of one way. `told` is how many its program believed to be safe."""

    kind: str
    accepted: int
    told: int
    direct: int
    overflow: int
    refused: int
    lost: int
    doubled: int
    cpu_us: float
    searchable_p99_s: float


async def run(seconds: float, peak: float, kinds: Sequence[str]) -> list[WayResult]:
    """One row a way, one after the other on the same node. Raises RuntimeError, MissingError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        node = Node(folder / "node", settings=REFUSING)
        await asyncio.to_thread(node.start)
        try:
            return [await _one(node, folder, kind, seconds, peak) for kind in kinds]
        finally:
            await asyncio.to_thread(node.stop)


async def _one(node: Node, folder: Path, kind: str, seconds: float, peak: float) -> WayResult:
    prefix = f"p{kind.replace(' ', '').replace('_', '')}"
    connection = Connection(Access(node.url))
    await Cluster(connection, Names(prefix), 30).init()
    await connection.close()
    firehose = FirehoseEndpoint(node.url, folder / kind)
    firehose.firehose.add(DeliveryStream(STREAM, Names(prefix).overflow, interval_s=2.0, failing=0.02, doubled=0.01))
    await firehose.start()
    own = folder / f"{kind} files"
    own.mkdir()
    command = [sys.executable, "-m", "loadtest.opensearch.writers", kind, node.url, prefix, STREAM]
    command += [str(seconds), str(peak), str(own)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, **firehose.environment}
    )
    neighbours = asyncio.create_task(_neighbours(node.url, seconds), name="neighbours")
    crash = asyncio.create_task(_crash(node, seconds * _CRASH_AT), name="crash")
    watching = asyncio.create_task(_watch(node.url, prefix), name="watch")
    out, _ = await process.communicate()
    await crash
    neighbours.cancel()
    await asyncio.gather(neighbours, return_exceptions=True)
    await firehose.flush(120)
    await asyncio.sleep(1.5)
    watching.cancel()
    delays = (await asyncio.gather(watching, return_exceptions=True))[0]
    await firehose.stop()
    found = json.loads(out)
    copies = await _count(node.url, prefix)
    stream = firehose.firehose.streams[STREAM]
    return WayResult(
        kind,
        found["accepted"],
        found["acknowledged"],
        found["accepted"] - stream.taken,
        stream.taken,
        found.get("refused", 0),
        found["accepted"] - len(copies) - found.get("refused", 0),
        sum(copies.values()) - len(copies),
        found["cpu_us"],
        _p99(delays if isinstance(delays, list) else []),
    )


async def _crash(node: Node, after_s: float) -> None:
    """The node is killed and started again; its data is there."""
    await asyncio.sleep(after_s)
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.start)


async def _neighbours(url: str, seconds: float) -> None:
    """Others who write into the cluster, as much as the day goes."""
    began_s = time.monotonic()
    body = b'{"index":{"_index":"neighbour"}}\n{"a":"%b"}\n' % (b"x" * 60) * NEIGHBOUR_DOCUMENTS
    headers = {"Content-Type": "application/x-ndjson"}

    async def write(session: ClientSession, own: int) -> None:
        while True:
            share = min(1.0, (time.monotonic() - began_s) / seconds)
            if rate_at(share, 1.0) * NEIGHBOURS > own + 0.5:
                with suppress(ClientError, OSError):
                    async with session.post(f"{url}/_bulk", data=body, headers=headers) as response:
                        await response.read()
            await asyncio.sleep(0.002 if rate_at(share, 1.0) * NEIGHBOURS > own + 0.5 else 0.05)

    async with ClientSession() as session:
        await asyncio.gather(*(write(session, own) for own in range(NEIGHBOURS)))


async def _watch(url: str, prefix: str) -> list[float]:
    """From arrival to the first search that finds it, in seconds, of the newest events at each look."""
    delays: list[float] = []
    body = {"size": 200, "sort": [{"time": "desc"}], "_source": ["id", "time"]}
    seen: set[str] = set()
    path = f"{url}/{prefix}-2*.*.*/_search?ignore_unavailable=true"
    try:
        async with ClientSession() as session:
            while True:
                answer: Any = {}
                with suppress(ClientError, OSError, ValueError):
                    async with session.post(path, json=body) as response:
                        answer = await response.json(content_type=None)
                now_ms = time.time() * 1000
                for hit in answer.get("hits", {}).get("hits", []):
                    if hit["_source"]["id"] not in seen:
                        seen.add(hit["_source"]["id"])
                        delays.append((now_ms - hit["_source"]["time"]) / 1000)
                await asyncio.sleep(PROBE_EVERY_S)
    except asyncio.CancelledError:
        return delays


async def _count(url: str, prefix: str) -> Counter[str]:
    """Copies of each event in the daily indices."""
    found: Counter[str] = Counter()
    async with ClientSession() as session:
        async with session.post(f"{url}/{prefix}-*/_refresh") as response:
            await response.read()
        body: dict[str, Any] = {"size": 10_000, "_source": ["id"], "sort": [{"id": "asc"}, {"device": "asc"}]}
        path = f"{url}/{prefix}-2*.*.*/_search?ignore_unavailable=true&allow_partial_search_results=false"
        # Copies of one event share its values of the sort: a page must not end between them.
        for device in range(200):
            body["query"] = {"term": {"device": f"d{device}"}}
            async with session.post(path, json=body) as response:
                hits = (await response.json(content_type=None))["hits"]["hits"]
            found.update(hit["_source"]["id"] for hit in hits)
    return found


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if values else float("nan")


def table(rows: Sequence[WayResult]) -> list[str]:
    """Markdown."""
    lines = [
        "| way | accepted | told safe | by Firehose | to be sent again | lost | doubled | CPU µs an event | "
        "searchable p99 s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {KINDS[row.kind]} | {row.accepted:,} | {row.told:,} | {row.overflow:,} | {row.refused:,} | "
            f"{row.lost:,} | {row.doubled:,} | {row.cpu_us:.1f} | {row.searchable_p99_s:.1f} |"
        )
    lines += [f"| {name} | skipped: no package registry has its program | | | | | | | |" for name in ABSENT]
    return lines


def main(seconds: float, peak: float, as_json: bool) -> int:
    """Run and print; the exit code: 0, or 99 when ours lost or doubled an event, 2 when something is missing."""
    try:
        rows = asyncio.run(run(seconds, peak, list(KINDS)))
    except MissingError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps([row._asdict() for row in rows], indent=2) if as_json else "\n".join(table(rows)))
    return 99 if any(row.kind == "ours" and (row.lost or row.doubled) for row in rows) else 0
