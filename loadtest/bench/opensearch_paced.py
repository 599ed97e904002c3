"""Events at a fixed rate into a real OpenSearch, an open loop: what acks take, and from the ack to the first search.

`python -m loadtest.bench.opensearch_paced --rate-per-s 2400 [--seconds 1800] [--node-share 0.3] [--refusing]`. A line
each minute. A probe posts an event over HTTP and asks the node until a search finds it. `--node-share` lets the node
run for a part of the time only, so that one machine can hold a load above what the node takes. At the end each
device's acknowledged events must be in the index, and no others.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.identity.token import mint
from loadtest.bench.opensearch import PREFIX, World
from loadtest.bench.process import LoadProcess
from loadtest.opensearch.install import MissingError

PROBE = "probe"
LOOK_EVERY_S = 0.02
# What waits in a stream when the load has been above what the node takes has to go through the same node.
SETTLED_S = 1800.0


class Probe(threading.Thread):
    """Posts an event at a time, and measures how long after its ack a search on the node finds it."""

    def __init__(self, world: World) -> None:
        super().__init__(name="probe", daemon=True)
        self._world = world
        self._ended = threading.Event()
        self.acked = 0
        self.delays_s: list[float] = []
        self.overflowed = 0

    def end(self) -> None:
        """Wait for the last one."""
        self._ended.set()
        self.join(60)

    def run(self) -> None:
        claims = {"sub": PROBE, "account": "bench", "scope": "location:write", "exp": time.time() + 86_400}
        token = mint(claims, self._world.key)
        while not self._ended.wait(0.5):
            name = f"{PROBE}-{self.acked}"
            event = {"id": name, "time": int(time.time() * 1000), "lat": 1, "lon": 1}
            answer = _post(
                f"http://127.0.0.1:{self._world.server.port}/api/v1/locations",
                {"events": [event]},
                {"Authorization": f"Bearer {token}"},
            )
            if answer is None or not answer["acks"]:
                continue
            self.acked += 1
            acked_s = time.monotonic()
            if answer["acks"][0]["durability"] != "indexed":
                self.overflowed += 1
                continue
            query = {"query": {"term": {"id": name}}, "size": 0}
            while time.monotonic() - acked_s < 30:
                found = _post(f"{self._world.node.url}/{PREFIX}-2*.*.*/_search", query)
                if found is not None and found["hits"]["total"]["value"]:
                    self.delays_s.append(time.monotonic() - acked_s)
                    break
                time.sleep(LOOK_EVERY_S)


def _post(url: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    """The decoded answer; None: there was none, or it was an error."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
    except (OSError, urllib.error.URLError):
        return None


def p99(values: Sequence[float]) -> float:
    """NaN: there are none."""
    return sorted(values)[len(values) * 99 // 100] if values else float("nan")


def run(arguments: argparse.Namespace, folder: Path) -> int:
    """Exit code 1 when something is lost or made up."""
    with World(folder, refusing=arguments.refusing) as world:
        if arguments.node_share < 1:
            world.node.slow_down(arguments.node_share)
        load = LoadProcess("loadtest.bench.paced_client", port=world.server.port, secret=world.key.decode())
        load.do("connect", count=arguments.devices)
        probe = Probe(world)
        probe.start()
        load.tell(
            "send",
            seconds=arguments.seconds,
            rate_per_s=arguments.rate_per_s,
            events=arguments.events,
            settle_s=SETTLED_S,
        )
        ends_s = time.perf_counter() + arguments.seconds
        since_s = time.perf_counter()
        taken = world.stream.taken
        sent: dict[str, Any] = {}
        while since_s < ends_s - 1:
            until_s = min(ends_s, since_s + arguments.lot_s)
            # Acks that take longer are counted at the end.
            time.sleep(max(0.0, until_s - time.perf_counter()) + 2)
            row = load.do("latencies", since_s=since_s, until_s=until_s)
            if "sent" in row:  # the sending ended meanwhile, and was answered first
                sent, row = row, load.answer()
            row["firehose_share"] = (world.stream.taken - taken) / max(1, row["acks"])
            row["rss_mb"] = world.server.rss_bytes() / 2**20
            row["spool_events"] = world.spooled()
            row["stream_records"] = len(world.stream.buffered)
            row["searchable_p99_s"] = p99(probe.delays_s)
            taken = world.stream.taken
            print(json.dumps({name: round(value, 3) for name, value in row.items()}), flush=True)
            since_s = until_s
        sent = sent or load.answer()
        probe.end()
        acked: dict[str, int] = load.do("counts")
        load.stop()
        acked[PROBE] = probe.acked
        began_s = time.monotonic()
        found = world.settle(SETTLED_S)
        wrong = {name for name in acked.keys() | found.keys() if acked.get(name, 0) != found.get(name, 0)}
        last = sent | {
            "acked": sum(acked.values()),
            "stored": sum(found.values()),
            "devices_that_differ": len(wrong),
            "probes": probe.acked,
            "probes_overflowed": probe.overflowed,
            "searchable_p99_s": round(p99(probe.delays_s), 3),
            "settled_after_s": round(time.monotonic() - began_s, 1),
            "unaccounted": world.unaccounted(),
        }
        print(json.dumps(last), flush=True)
        return int(bool(wrong))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--rate-per-s", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--lot-s", type=float, default=60)
    parser.add_argument("--events", type=int, default=1)
    parser.add_argument("--node-share", type=float, default=1.0)
    parser.add_argument("--refusing", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        try:
            sys.exit(run(arguments, Path(name)))
        except MissingError as error:
            print(f"skipped: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
