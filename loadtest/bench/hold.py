"""Holding websockets: memory a connection, CPU a handshake, idle CPU, CPU an echo, memory after churn; beside peers.

`python -m loadtest.bench.hold [--connections 15000] [--idle 60] [--only heiwa,websockets,aiohttp,node,gorilla,gobwas]`
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from gateway.identity.key_files import local_key
from loadtest.bench.peers import build
from loadtest.bench.process import LoadProcess, ServerProcess

OURS = "heiwa"


def start(peer: str, folder: Path) -> tuple[ServerProcess, dict[str, object]]:
    if peer == OURS:
        command = [sys.executable, "-m", "tests.support.echo", "--folder", str(folder)]
        command += ["--set", "connections.heartbeat_s=25", "--set", "log.level=error"]
        command += ["--set", "connections.flap_limit=0"]
        options: dict[str, str] = {"subprotocol": "heiwa.echo", "secret": local_key(folder).decode()}
    else:
        command = build.command(peer)
        options = {}
    server = ServerProcess(command)
    return server, {"port": server.port, **options}


def measure(peer: str, connections: int, idle_s: float, echoes: int, churn: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        server, options = start(peer, Path(folder))
        load = LoadProcess("loadtest.bench.client", **options)
        time.sleep(1.5)
        row = {"fresh_rss_mb": server.rss_bytes() / 2**20}
        fresh, private, cpu = server.rss_bytes(), server.private_bytes(), server.cpu_s()
        opened = load.do("connect", count=connections)
        if opened["open"] != connections:
            raise RuntimeError(f"{peer}: only {opened}")
        row["handshake_us"] = (server.cpu_s() - cpu) / connections * 1e6
        load.do("idle", seconds=3)
        row["rss_bytes"] = (server.rss_bytes() - fresh) / connections
        row["private_bytes"] = (server.private_bytes() - private) / connections
        cpu = server.cpu_s()
        idle = load.do("idle", seconds=idle_s)
        row["idle_us_per_s"] = (server.cpu_s() - cpu) / connections / idle_s * 1e6
        row["unexpected"] = idle["unexpected"]
        row["rss_after_idle_bytes"] = (server.rss_bytes() - fresh) / connections
        load.do("echo", messages=2000)
        cpu = server.cpu_s()
        load.do("echo", messages=echoes)
        row["echo_us"] = (server.cpu_s() - cpu) / echoes * 1e6
        load.do("close")
        if churn:
            load.do("churn", count=churn)
            half = server.rss_bytes()
            load.do("churn", count=churn)
            row["churn_growth_mb"] = (server.rss_bytes() - half) / 2**20
            row["after_churn_rss_mb"] = server.rss_bytes() / 2**20
        load.stop()
        row["exit"] = server.stop()
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=15_000)
    parser.add_argument("--idle", type=float, default=50)
    parser.add_argument("--echoes", type=int, default=60_000)
    parser.add_argument("--churn", type=int, default=0)
    parser.add_argument("--only", default=",".join((OURS, *build.PEERS)))
    arguments = parser.parse_args()
    for peer in arguments.only.split(","):
        row = measure(peer, arguments.connections, arguments.idle, arguments.echoes, arguments.churn)
        print(json.dumps({"peer": peer, **{name: round(value, 2) for name, value in row.items()}}), flush=True)


if __name__ == "__main__":
    main()
