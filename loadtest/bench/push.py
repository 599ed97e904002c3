"""Events of runs from their commit to subscribed clients: 10,000 websockets, each with a run of its own.

`python -m loadtest.bench.push [--subscribers 10000] [--per-s 170] [--seconds 30]`, one line of JSON. Three events
follow from each attempt that is finished. A delay counts from the turn in which the manager decided an event, so that
its commit is part of it. Afterwards every subscriber is held against the store: whether it has each event of its run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.app.workflow_parts import STORE_NAME
from gateway.identity.key_files import local_key
from loadtest.bench.process import LoadProcess, ServerProcess

SETTLE_S = 5.0


def measure(subscribers: int, per_s: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="heiwa-bench-") as text:
        folder = Path(text)
        command = [sys.executable, "-m", "loadtest.bench.push_gateway", text, "--runs", str(subscribers)]
        server = ServerProcess([*command, "--per-s", str(per_s)])
        secret = local_key(folder).decode()
        options = {"subprotocol": "heiwa.v1.json", "scope": "progress:read", "prefix": "viewer"}
        load = LoadProcess("loadtest.bench.push_client", port=server.port, secret=secret, **options)
        opened = load.do("connect", count=subscribers, at_once=200)
        if opened["open"] != subscribers:
            raise RuntimeError(f"only {opened}")
        subscribed = load.do("subscribe", runs=(folder / "runs").read_text().split())
        time.sleep(SETTLE_S)
        os.kill(server.pid, signal.SIGUSR2)
        cpu_s = server.cpu_s()
        row = load.do("watch", seconds=seconds)
        row["server_cpu_percent"] = 100 * (server.cpu_s() - cpu_s) / seconds
        row["per_s"] = row["events"] / seconds
        server_code = _stop(server, load)
        row |= {"subscribers": subscribed["subscribed"], **_missing(folder, load), "server_exit": server_code}
        load.stop()
        return row


def _stop(server: ServerProcess, load: LoadProcess) -> int:
    """Nothing is decided any more; what was is given a moment to arrive, then the process ends."""
    os.kill(server.pid, signal.SIGUSR1)
    load.do("watch", seconds=2)
    return server.stop()


def _missing(folder: Path, load: LoadProcess) -> dict[str, Any]:
    """Events that are stored, and those that their subscribers do not have."""
    seen = load.do("seen")["offsets"]
    with sqlite3.connect(folder / STORE_NAME) as store:
        stored = dict(store.execute("SELECT id, revision FROM run").fetchall())
    missing = sum(max(0, revision - seen.get(f"workflow:{run}", 0)) for run, revision in stored.items())
    return {"stored": sum(stored.values()), "missing": missing}


def table(row: Mapping[str, Any]) -> list[str]:
    """Markdown."""
    return [
        f"| events of runs, {row['per_s']:,.0f} a second, to {row['subscribers']:,} websockets with a run each "
        "| p50 ms | p99 ms | p99.9 ms | events missing |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| from the manager's decision, its commit included, {row['server_cpu_percent']:.0f} % of a core "
        f"| {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['p99.9_ms']:.1f} | {row['missing']:,} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--per-s", type=float, default=170)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.subscribers, arguments.per_s, arguments.seconds)), flush=True)


if __name__ == "__main__":
    main()
