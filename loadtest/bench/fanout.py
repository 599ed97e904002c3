"""Fan-out: one event of 200 bytes to all connections, and five in one turn; deliveries a second of server CPU, beside
peers.

`python -m loadtest.bench.fanout [--connections 10000] [--rounds 20] [--only heiwa,websockets,gorilla]`
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from gateway.identity.key_files import local_key
from loadtest.bench.hold import OURS
from loadtest.bench.peers import build
from loadtest.bench.process import LoadProcess, ServerProcess

PEERS = ("websockets", "gorilla")
# In one turn of the server's loop.
TOGETHER = 5


def start(peer: str, folder: Path) -> tuple[ServerProcess, dict[str, object]]:
    if peer != OURS:
        server = ServerProcess([*build.command(peer), "fanout"])
        return server, {"port": server.port}
    command = [sys.executable, "-m", "tests.support.fanout", "--folder", str(folder)]
    for setting in ("connections.heartbeat_s=25", "log.level=error", "connections.flap_limit=0"):
        command += ["--set", setting]
    server = ServerProcess(command)
    return server, {"port": server.port, "subprotocol": "heiwa.echo", "secret": local_key(folder).decode()}


def measure(peer: str, connections: int, rounds: int) -> dict[str, float]:
    """Deliveries a CPU second of the server, with one event and with several in one turn."""
    with tempfile.TemporaryDirectory() as folder:
        server, options = start(peer, Path(folder))
        load = LoadProcess("loadtest.bench.client", **options)
        opened = load.do("connect", count=connections)
        if opened["open"] != connections:
            raise RuntimeError(f"{peer}: only {opened}")
        # Subscriptions begin with the first message, 0.6 s after the handshake at the latest.
        time.sleep(2)
        row = {}
        for events in (1, TOGETHER):
            load.do("broadcast", rounds=2, events=events)
            cpu_s = server.cpu_s()
            done = load.do("broadcast", rounds=rounds, events=events)
            row[f"deliveries_of_{events}_per_cpu_s"] = done["deliveries"] / (server.cpu_s() - cpu_s)
            row[f"round_of_{events}_ms"] = done["seconds"] / rounds * 1000
        load.stop()
        server.stop()
        return row


def main() -> None:
    """One line of JSON a server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default=",".join((OURS, *PEERS)))
    arguments = parser.parse_args()
    for peer in arguments.only.split(","):
        try:
            row = measure(peer, arguments.connections, arguments.rounds)
        except build.MissingToolError as error:
            print(f"skipped {peer}: {error}", file=sys.stderr, flush=True)
            continue
        print(json.dumps({"peer": peer, **{name: round(value, 1) for name, value in row.items()}}), flush=True)


if __name__ == "__main__":
    main()
