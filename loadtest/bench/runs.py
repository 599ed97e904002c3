"""Durable runs of two nodes a second through one manager, on SQLite and PostgreSQL, beside other engines.

`python -m loadtest.bench.runs [--runs 5000] [--only sqlite,postgresql,dbos-sqlite,…]`, one line of JSON an engine.
Everything is synced to disk. WAL bytes and syncs a run: of SQLite by watching its system calls in a pass of its own, of
PostgreSQL by `pg_stat_wal`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from loadtest.bench.durable_peers import PEERS, cpu_s, play
from loadtest.bench.peers.build import MissingToolError
from tests.support.postgres import Postgres

OURS = ("sqlite", "postgresql")
TRACED_RUNS = 1_000
AT_ONCE = 1_000
_WRITE = re.compile(r"pwrite64\(\d+<[^>]*-wal>, .*\) = (\d+)")
_SYNC = re.compile(r"f(?:data)?sync\(")


def manager(url: str, runs: int, *prefix: str) -> dict[str, Any]:
    command = [*prefix, sys.executable, "-m", "loadtest.bench.runs_manager", url, "--runs", str(runs)]
    done = subprocess.run(
        [*command, "--at-once", str(AT_ONCE)], check=True, capture_output=True, text=True, timeout=600
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def on_sqlite(runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="heiwa-bench-") as folder:
        row = manager(f"sqlite:///{folder}/runs.db", runs)
        if (strace := shutil.which("strace")) is None:
            print("WAL of SQLite is not measured: strace is not installed", file=sys.stderr)
            return row
        log = Path(folder) / "calls"
        watch = (strace, "-f", "-y", "-s", "0", "-e", "trace=pwrite64,fsync,fdatasync", "-o", str(log))
        played = TRACED_RUNS + 200
        manager(f"sqlite:///{folder}/traced.db", TRACED_RUNS, *watch)
        lines = log.read_text().splitlines()
        row["wal_bytes"] = sum(int(found[1]) for line in lines if (found := _WRITE.search(line))) / played
        row["syncs"] = sum(_SYNC.search(line) is not None for line in lines) / played
        return row


def on_postgresql(server: Postgres, runs: int) -> dict[str, Any]:
    before, before_s = asyncio.run(_wal(server)), cpu_s(server.pid)
    row = manager(server.url(), runs)
    return _of_server(server, row, before, before_s, runs + 200)


def _of_server(
    server: Postgres, row: dict[str, Any], before: tuple[int, int], before_s: float, played: int
) -> dict[str, Any]:
    after = asyncio.run(_wal(server))
    row["wal_bytes"] = (after[0] - before[0]) / played
    row["syncs"] = (after[1] - before[1]) / played
    # Connections that are open count when they have ended.
    row["cpu_ms"] += 1000 * (cpu_s(server.pid) - before_s) / played
    return row


async def _wal(server: Postgres) -> tuple[int, int]:
    connection = await asyncpg.connect(host="127.0.0.1", port=server.port, user="postgres", database="postgres")
    try:
        row = await connection.fetchrow("SELECT wal_bytes::bigint, wal_sync FROM pg_stat_wal")
        return int(row[0]), int(row[1])
    finally:
        await connection.close()


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown, one line an engine."""
    titles = {
        "sqlite": "**heiwa, one manager, SQLite**",
        "postgresql": "**heiwa, one manager, PostgreSQL**",
        **{peer.name: peer.title for peer in PEERS},
    }
    lines = [
        "| durable runs of two nodes, engine and store on one machine | runs a second | CPU ms a run (engine, store, "
        "steps) | runs a second and core | WAL bytes a run | syncs a run |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, title in titles.items():
        row = next((row for row in rows if row["engine"] == name), None)
        if row is None:
            lines.append(f"| {title} | not measured | | | | |")
            continue
        wal = f"{row['wal_bytes']:,.0f}" if "wal_bytes" in row else ""
        syncs = f"{row['syncs']:.2f}" if "syncs" in row else ""
        cells = (f"{row['runs_per_s']:,.0f}", f"{row['cpu_ms']:.2f}", f"{1000 / row['cpu_ms']:,.0f}", wal, syncs)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """One line of JSON an engine; what cannot be had is said on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5_000)
    parser.add_argument("--only", default=",".join((*OURS, *(peer.name for peer in PEERS))))
    arguments = parser.parse_args()
    only = arguments.only.split(",")
    server: Postgres | None = None
    if any("postgresql" in name for name in only):
        server = Postgres()
        server.start("fsync=on", "synchronous_commit=on", "full_page_writes=on")
    try:
        for name in only:
            try:
                row = _one(name, arguments.runs, server)
            except (MissingToolError, RuntimeError, subprocess.SubprocessError) as error:
                print(f"skipped {name}: {error}", file=sys.stderr, flush=True)
                continue
            print(json.dumps({"engine": name, **row}), flush=True)
    finally:
        if server is not None:
            server.forget()


def _one(name: str, runs: int, server: Postgres | None) -> dict[str, Any]:
    if name == "sqlite":
        return on_sqlite(runs)
    if name == "postgresql":
        assert server is not None
        return on_postgresql(server, runs)
    peer = next(peer for peer in PEERS if peer.name == name)
    if server is None or "postgresql" not in name:
        return play(peer, "")
    before, before_s = asyncio.run(_wal(server)), cpu_s(server.pid)
    row = play(peer, server.url().replace("postgresql+asyncpg", "postgresql+psycopg"))
    return _of_server(server, row, before, before_s, peer.runs + 50)


if __name__ == "__main__":
    main()
