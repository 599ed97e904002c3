"""Ingest through real websockets into one gateway: acknowledged events a second, CPU an event, search at the end.

`python -m loadtest.bench.ingest [--devices 400] [--seconds 60] [--events 20] [--rows 5000000] [--rate-per-s 5000]`

A device has one message in flight; with `--rate-per-s` devices send at that rate of events, whatever is under way.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from gateway.identity.key_files import local_key
from gateway.identity.token import mint
from loadtest.bench.process import LoadProcess, ServerProcess

WORLD = "bbox=-180,-90,180,90"
EMPTY_BOX = "bbox=-140.001,-50.001,-140,-50"  # the middle of the South Pacific


def start(folder: Path, settings: Sequence[str] = ()) -> tuple[ServerProcess, str, bytes]:
    """A gateway with everything on; returns it, the address of its operations listener, and its key."""
    command = [sys.executable, "-m", "gateway", "serve", "--set", f"data.folder={folder}"]
    command += ["--set", "listen.public=127.0.0.1:0", "--set", "listen.operations=127.0.0.1:0"]
    command += ["--set", "connections.flap_limit=0", "--set", "log.level=error"]
    for setting in settings:
        command += ["--set", setting]
    server = ServerProcess(command, "ws://127.0.0.1:")
    assert server._process.stdout is not None
    line = server._process.stdout.readline()
    return server, line.split()[-1], local_key(folder)


def search_ms(operations: str, key: bytes, query: str, rounds: int = 20) -> float:
    """The median of some searches."""
    token = mint({"sub": "bench", "account": "bench", "scope": "location:read", "exp": time.time() + 600}, key)
    took = []
    for _ in range(rounds):
        request = urllib.request.Request(f"{operations}/api/v1/locations/search?{query}&limit=100")
        request.add_header("Authorization", f"Bearer {token}")
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[rounds // 2]


def paced(server: ServerProcess, key: bytes, arguments: argparse.Namespace) -> dict[str, float]:
    """An open loop; a warm-up comes first, for the files and the caches."""
    load = LoadProcess("loadtest.bench.paced_client", port=server.port, secret=key.decode())
    load.do("connect", count=arguments.devices)
    load.do("send", seconds=3, rate_per_s=arguments.rate_per_s, events=arguments.events)
    cpu_s, began_s = server.cpu_s(), time.perf_counter()
    sent = load.do("send", seconds=arguments.seconds, rate_per_s=arguments.rate_per_s, events=arguments.events)
    cpu_s = server.cpu_s() - cpu_s
    took = load.do("latencies", since_s=began_s, until_s=time.perf_counter())
    load.stop()
    if sent["missing"] or sent["nacked"] or sent["unexpected"]:
        raise RuntimeError(f"not all were acknowledged: {sent}")
    return {
        "events_per_s": sent["sent"] / arguments.seconds,
        "cpu_us_per_event": cpu_s / sent["sent"] * 1e6,
        "ack_p50_ms": took["p50_ms"],
        "ack_p99_ms": took["p99_ms"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument(
        "--rate-per-s", type=float, default=0, help="of events, in an open loop; 0: as fast as acks come back"
    )
    parser.add_argument(
        "--rows", type=int, default=0, help="go on in lots of --seconds until this number of events is stored"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server, operations, key = start(Path(folder))
        if arguments.rate_per_s:
            print(json.dumps({name: round(value, 1) for name, value in paced(server, key, arguments).items()}))
            server.stop()
            return
        load = LoadProcess("loadtest.bench.ingest_client", port=server.port, secret=key.decode())
        load.do("connect", count=arguments.devices)
        stored = 0
        while True:
            cpu_s = server.cpu_s()
            row = load.do("ingest", seconds=arguments.seconds, events=arguments.events)
            row["cpu_us_per_event"] = (server.cpu_s() - cpu_s) / row["acked"] * 1e6
            row["rss_mb"] = server.rss_bytes() / 2**20
            stored += row["acked"]
            row["stored"] = stored
            row["world_ms"] = search_ms(operations, key, WORLD)
            row["empty_box_ms"] = search_ms(operations, key, EMPTY_BOX)
            print(json.dumps({name: round(value, 1) for name, value in row.items()}), flush=True)
            if stored >= arguments.rows:
                break
        load.stop()
        server.stop()


if __name__ == "__main__":
    main()
