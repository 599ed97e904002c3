"""Websockets into a real OpenSearch: events a second, where they went, memory, and what is there at the end.

`python -m loadtest.bench.opensearch [--lots 3] [--seconds 60] [--refusing]`. Devices send the next message when the
last one is acknowledged. `--refusing`: the node has one writing thread and room for two requests, so it refuses what is
above that, and a stand-in Firehose takes it. At the end every acknowledged event must be in the index, and no other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from gateway.adapters.opensearch.cluster import Cluster
from gateway.adapters.opensearch.connection import Access, Connection
from gateway.adapters.opensearch.definitions import Names
from loadtest.bench.ingest import start
from loadtest.bench.process import LoadProcess
from loadtest.cloud.firehose import DeliveryStream
from loadtest.cloud.firehose_endpoint import FirehoseEndpoint
from loadtest.opensearch.install import MissingError
from loadtest.opensearch.node import Node
from loadtest.opensearch.peaks import REFUSING, STREAM

T = TypeVar("T")
PREFIX = "locations"
SETTLED_S = 300.0


class Loop:
    """An event loop on a thread, for the stand-in, while the measuring waits."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="stand-in", daemon=True).start()

    def do(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        """Run it there. Raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)


async def initialise(url: str) -> None:
    """As `heiwa init opensearch`."""
    connection = Connection(Access(url))
    await Cluster(connection, Names(PREFIX), 30).init()
    await connection.close()


def metrics(operations: str) -> dict[str, float]:
    """The gateway's gauges without labels."""
    with urllib.request.urlopen(f"{operations}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def stored(url: str) -> dict[str, int]:
    """Documents in the daily indices, by device."""
    body = {"size": 0, "aggs": {"devices": {"terms": {"field": "device", "size": 50_000}}}}
    answer: Any = {}
    for path, sent in ((f"/{PREFIX}-*/_refresh", {}), (f"/{PREFIX}-2*.*.*/_search", body)):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url + path, json.dumps(sent).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
    return {bucket["key"]: bucket["doc_count"] for bucket in answer["aggregations"]["devices"]["buckets"]}


class World:
    """A node, a stand-in Firehose and a gateway, each with its own files in `folder`. A context manager."""

    def __init__(self, folder: Path, *, refusing: bool) -> None:
        self.node = Node(folder / "node", heap="1g", settings=REFUSING if refusing else {})
        self.node.start()
        self._loop = Loop()
        self._loop.do(initialise(self.node.url))
        self._firehose = FirehoseEndpoint(self.node.url, folder / "failures")
        self.stream = self._firehose.firehose.add(DeliveryStream(STREAM, Names(PREFIX).overflow, interval_s=5.0))
        self._loop.do(self._firehose.start())
        os.environ.update(self._firehose.environment)
        settings = [f"locations.opensearch_url={self.node.url}", f"locations.firehose_stream={STREAM}"]
        self.server, self.operations, self.key = start(folder / "data", settings)

    def spooled(self) -> float:
        """Events in the gateway's spool."""
        return metrics(self.operations)["heiwa_locations_spool_events"]

    def unaccounted(self) -> float:
        """Events that the gateway took and cannot say where they are."""
        return metrics(self.operations)["heiwa_locations_unaccounted_events"]

    def settle(self, timeout_s: float) -> dict[str, int]:
        """Wait until spool and stream are empty; documents by device. Raises TimeoutError."""
        deadline_s = time.monotonic() + timeout_s
        while self.spooled() and time.monotonic() < deadline_s:
            time.sleep(1)
        self._loop.do(self._firehose.flush(timeout_s), timeout_s + 10)
        return stored(self.node.url)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._loop.do(self._firehose.stop())
        self.node.stop()


def run(arguments: argparse.Namespace, folder: Path) -> int:
    """Print a line a lot and one at the end; exit code 1 when something is lost or made up."""
    with World(folder, refusing=arguments.refusing) as world:
        load = LoadProcess("loadtest.bench.ingest_client", port=world.server.port, secret=world.key.decode())
        load.do("connect", count=arguments.devices)
        acked = nacked = 0
        for _ in range(arguments.lots):
            cpu_s, before = world.server.cpu_s(), world.stream.taken
            row = load.do("ingest", seconds=arguments.seconds, events=arguments.events)
            acked += row["acked"]
            nacked += row.get("nacked", 0)
            row["cpu_us_per_event"] = (world.server.cpu_s() - cpu_s) / max(1, row["acked"]) * 1e6
            row["firehose_share"] = (world.stream.taken - before) / max(1, row["acked"])
            row["rss_mb"] = world.server.rss_bytes() / 2**20
            row["spool_events"] = world.spooled()
            print(json.dumps({name: round(value, 3) for name, value in row.items()}), flush=True)
        load.stop()
        found = sum(world.settle(SETTLED_S).values())
        last = {"acked": acked, "nacked": nacked, "stored": found, "lost_or_made_up": found - acked}
        print(json.dumps(last | {"unaccounted": world.unaccounted()}), flush=True)
        return int(found != acked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--lots", type=int, default=1)
    parser.add_argument("--refusing", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        try:
            sys.exit(run(arguments, Path(name)))
        except MissingError as error:
            print(f"skipped: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
