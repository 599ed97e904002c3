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

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it there."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SETTLED_S)


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


def stored(url: str) -> int:
    """Documents in the daily indices."""
    for method, path in (("POST", f"/{PREFIX}-*/_refresh"), ("GET", f"/{PREFIX}-2*.*.*/_count")):
        request = urllib.request.Request(url + path, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
    return int(found["count"])


def run(arguments: argparse.Namespace, folder: Path) -> int:
    """Print a line a lot and one at the end; exit code 1 when something is lost or made up."""
    node = Node(folder / "node", heap="1g", settings=REFUSING if arguments.refusing else {})
    node.start()
    loop = Loop()
    loop.do(initialise(node.url))
    firehose = FirehoseEndpoint(node.url, folder / "failures")
    stream = firehose.firehose.add(DeliveryStream(STREAM, Names(PREFIX).overflow, interval_s=5.0))
    loop.do(firehose.start())
    os.environ.update(firehose.environment)
    settings = [f"locations.opensearch_url={node.url}", f"locations.firehose_stream={STREAM}"]
    server, operations, key = start(folder / "data", settings)
    load = LoadProcess("loadtest.bench.ingest_client", port=server.port, secret=key.decode())
    load.do("connect", count=arguments.devices)
    acked = nacked = 0
    for _ in range(arguments.lots):
        cpu_s, before = server.cpu_s(), stream.taken
        row = load.do("ingest", seconds=arguments.seconds, events=arguments.events)
        acked += row["acked"]
        nacked += row.get("nacked", 0)
        row["cpu_us_per_event"] = (server.cpu_s() - cpu_s) / max(1, row["acked"]) * 1e6
        row["firehose_share"] = (stream.taken - before) / max(1, row["acked"])
        row["rss_mb"] = server.rss_bytes() / 2**20
        row["spool_events"] = metrics(operations)["heiwa_locations_spool_events"]
        print(json.dumps({name: round(value, 3) for name, value in row.items()}), flush=True)
    load.stop()
    deadline_s = time.monotonic() + SETTLED_S
    while metrics(operations)["heiwa_locations_spool_events"] and time.monotonic() < deadline_s:
        time.sleep(1)
    loop.do(firehose.flush(SETTLED_S))
    found = stored(node.url)
    last = {"acked": acked, "nacked": nacked, "stored": found, "lost_or_made_up": found - acked}
    print(json.dumps(last | {"unaccounted": metrics(operations)["heiwa_locations_unaccounted_events"]}), flush=True)
    server.stop()
    loop.do(firehose.stop())
    node.stop()
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
