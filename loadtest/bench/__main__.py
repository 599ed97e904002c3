"""The comparison with other servers: one table, measured in one run on one machine.

`python -m loadtest.bench [--only commands] [--rounds 3] [--connections 15000] [--write docs/benchmarks.md]`. CPU is the
server process's own clock (user and system), memory its RSS and its private pages; with more rounds, the median of each
number.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtest.bench import handshake, push, run_processes, runs
from loadtest.bench.fanout import TOGETHER
from loadtest.bench.hold import OURS, measure
from loadtest.bench.peers import build

ROWS = (
    ("rss_bytes", "memory a connection, bytes RSS", 0),
    ("private_bytes", "memory a connection, private bytes of smaps_rollup", 0),
    ("handshake_us", "CPU a handshake, µs (heiwa: with an HS256 token)", 0),
    ("idle_us_per_s", "idle CPU a connection, µs/s (ping each 25 s)", 2),
    ("echo_us", "CPU a 100 B echo, µs", 1),
    ("fresh_rss_mb", "fresh process, MiB RSS", 1),
)


def hold(rounds: int, connections: int) -> dict[str, dict[str, float]]:
    """Medians by peer. A peer whose tool is missing is left out, with a line on standard error."""
    seen: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for peer in (OURS, *build.PEERS):
            try:
                row = measure(peer, connections, idle_s=50, echoes=60_000, churn=0)
            except build.MissingToolError as error:
                print(f"skipped {peer}: {error}", file=sys.stderr, flush=True)
                continue
            seen.setdefault(peer, []).append(row)
            print(json.dumps({"peer": peer, **row}), file=sys.stderr, flush=True)
    return {
        peer: {name: statistics.median(row[name] for row in rows) for name, _, _ in ROWS} for peer, rows in seen.items()
    }


def ingest(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench.ingest", *arguments], check=True, capture_output=True, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def bulk() -> list[str]:
    """Lines about the way into a real OpenSearch; what is missing for it is said, and nothing is measured."""
    done = subprocess.run([sys.executable, "-m", "loadtest.bench.bulk"], check=True, capture_output=True, text=True)
    if not done.stdout.strip():
        return [f"Into OpenSearch: not measured ({done.stderr.strip()})."]
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(row), file=sys.stderr, flush=True)
    return [
        "| into a real OpenSearch node, without sockets | client CPU µs a document | documents a second |",
        "| --- | ---: | ---: |",
        f"| **heiwa, with classification, acks and accounts** | {row['heiwa_us']:.1f} | {row['heiwa_per_s']:,.0f} |",
        f"| opensearch-py `async_bulk` ({row['ratio']:.1f} ×) | {row['async_bulk_us']:.1f} | "
        f"{row['async_bulk_per_s']:,.0f} |",
    ]


def gateways() -> list[str]:
    """Lines about commands over two gateways and a broker; what is missing for it is said, and nothing is measured."""
    command = [sys.executable, "-m", "loadtest.bench.gateways"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        return [f"Commands over two gateways: not measured ({done.stderr.strip().splitlines()[-1]})."]
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(row), file=sys.stderr, flush=True)
    return [
        f"| commands over HTTP, {row['per_s']:,.0f} a second, two gateways and a broker | p50, ms | p99, ms |",
        "| --- | ---: | ---: |",
        f"| to the gateway that holds the device | {row['command_local_p50_ms']:.1f} "
        f"| {row['command_local_p99_ms']:.1f} |",
        f"| to the other one | {row['command_remote_p50_ms']:.1f} | {row['command_remote_p99_ms']:.1f} |",
        "",
        f"CPU a command, half of them each way: {row['gateways_cpu_us']:.0f} µs of both gateways together, "
        f"{row['broker_cpu_us']:.0f} µs of the broker.",
    ]


def fanned() -> list[str]:
    """Lines about one event to many subscribers; a peer whose tool is missing is left out."""
    done = subprocess.run([sys.executable, "-m", "loadtest.bench.fanout"], check=True, capture_output=True, text=True)
    rows: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    print(done.stdout, done.stderr, file=sys.stderr, flush=True)
    titles = {
        OURS: "**heiwa, subscribers of one channel**",
        "websockets": "websockets `broadcast`",
        "gorilla": "Go gorilla, prepared message",
    }
    return [
        "| 200 bytes to 10,000 subscribers | deliveries a CPU second, one event | five events in one turn |",
        "| --- | ---: | ---: |",
        *(
            f"| {titles[row['peer']]} | {row['deliveries_of_1_per_cpu_s']:,.0f} | "
            f"{row[f'deliveries_of_{TOGETHER}_per_cpu_s']:,.0f} |"
            for row in rows
        ),
    ]


def paced() -> list[str]:
    """A line about acks and searches at a fixed rate into a real OpenSearch, below what the node takes."""
    command = [sys.executable, "-m", "loadtest.bench.opensearch_paced", "--rate-per-s", "2000", "--lot-s", "30"]
    done = subprocess.run([*command, "--seconds", "120"], check=True, capture_output=True, text=True)
    if not done.stdout.strip():
        return []
    *_, row, last = map(json.loads, done.stdout.splitlines())
    print(json.dumps([row, last]), file=sys.stderr, flush=True)
    return [
        "",
        f"2,000 single events a second into it, through websockets: ack p50 {row['p50_ms']:.0f} ms, p99 "
        f"{row['p99_ms']:.0f} ms; a search on the node finds an event within {last['searchable_p99_s']:.2f} s of its "
        f"ack (p99); {last['acked']:,} acknowledged, {last['stored']:,} stored.",
    ]


def durable_runs() -> list[str]:
    """Lines about durable runs of two nodes; an engine that cannot be had is left out, and said on standard error."""
    done = subprocess.run([sys.executable, "-m", "loadtest.bench.runs"], check=True, capture_output=True, text=True)
    print(done.stdout, done.stderr, file=sys.stderr, flush=True)
    return runs.table([json.loads(line) for line in done.stdout.splitlines()])


def waiting_runs() -> list[str]:
    """Lines about the memory of runs that wait, in one process each and in one manager."""
    command = [sys.executable, "-m", "loadtest.bench.run_processes"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(done.stdout, file=sys.stderr, flush=True)
    return run_processes.table(json.loads(done.stdout.splitlines()[-1]))


def pushed() -> list[str]:
    """Lines about events of runs on their way to subscribers."""
    done = subprocess.run([sys.executable, "-m", "loadtest.bench.push"], check=True, capture_output=True, text=True)
    print(done.stdout, file=sys.stderr, flush=True)
    return push.table(json.loads(done.stdout.splitlines()[-1]))


def table(medians: dict[str, dict[str, float]]) -> list[str]:
    """Markdown, one line a server: its numbers, and each divided by ours."""
    ours = medians[OURS]
    lines = [
        f"| server | {' | '.join(title for _, title, _ in ROWS)} |",
        "| --- |" + " ---: |" * len(ROWS),
        f"| **heiwa, everything on** | {' | '.join(f'**{ours[name]:,.{digits}f}**' for name, _, digits in ROWS)} |",
    ]
    for peer, title in build.PEERS.items():
        if peer in medians:
            values = [(medians[peer][name], ours[name], digits) for name, _, digits in ROWS]
            cells = [f"{value:,.{digits}f} ({value / our:.2g} ×)" for value, our, digits in values]
            lines.append(f"| {title} | {' | '.join(cells)} |")
        else:
            lines.append(f"| {title} |" + " not measured: its tool is missing |" + " |" * (len(ROWS) - 1))
    return lines


def ingest_table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The ingest rates, in Markdown."""
    head = "| ingest through websockets, into the embedded index, acknowledged after fsync | events a second "
    return [
        f"{head}| CPU µs an event (all threads) | ack p50 ms | ack p99 ms |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {title} | {row['events_per_s']:,.0f} | {row['cpu_us_per_event']:.0f} | {row['ack_p50_ms']:.0f} | "
            f"{row['ack_p99_ms']:.0f} |"
            for title, row in rows.items()
        ),
    ]


def held(arguments: argparse.Namespace) -> list[str]:
    """The comparison of servers, and what many connects leave behind."""
    medians = hold(arguments.rounds, arguments.connections)
    churn = measure(OURS, arguments.connections, idle_s=1, echoes=2000, churn=50_000)
    print(json.dumps({"churn": churn}), file=sys.stderr, flush=True)
    return [
        *table(medians),
        "",
        f"RSS of heiwa after 100,000 connects and disconnects, compared with after the first 50,000: "
        f"{churn['churn_growth_mb']:+.1f} MiB.",
    ]


def ingested(arguments: argparse.Namespace) -> list[str]:
    """Events into the embedded index."""
    lots = ingest("--seconds", str(arguments.seconds), "--events", "20")
    single = ingest("--seconds", str(arguments.seconds // 2), "--events", "1", "--devices", "400")
    paced = ingest(
        "--seconds", str(arguments.seconds // 2), "--events", "1", "--devices", "2000", "--rate-per-s", "5000"
    )
    return ingest_table(
        {
            "`locations` of 20, 400 devices": lots,
            "single `location`, 400 devices": single,
            "single `location`, 2,000 devices, 5,000 a second": paced,
        }
    )


def commands() -> list[str]:
    """Lines about commands over websockets, through one gateway and through two."""
    lines = [
        "| commands over websockets, 1,000 a second, to the result | p50, ms | p99, ms | CPU of gateways, µs each |",
        "| --- | ---: | ---: | ---: |",
    ]
    for count, title in ((1, "through one gateway"), (2, "sent to one gateway, carried out at another, over a broker")):
        command = [sys.executable, "-m", "loadtest.bench.commands", "--gateways", str(count)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            lines.append(f"| {title} | not measured ({done.stderr.strip().splitlines()[-1]}) | | |")
            continue
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(row), file=sys.stderr, flush=True)
        lines.append(f"| {title} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['cpu_us']:.0f} |")
    return lines


def handshakes(arguments: argparse.Namespace) -> list[str]:
    """Lines about connects at a steady rate, beside the floor of this language."""
    rate_per_s = 1000.0
    row = handshake.compare(min(arguments.connections, 10_000), rate_per_s, arguments.rounds)
    print(json.dumps(row), file=sys.stderr, flush=True)
    return handshake.table(row, rate_per_s)


SECTIONS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "hold": held,
    "handshake": handshakes,
    "ingest": ingested,
    "fanout": lambda _: fanned(),
    "opensearch": lambda _: [*bulk(), *paced()],
    "commands": lambda _: [*commands(), "", *gateways()],
    "runs": lambda _: [*durable_runs(), "", *waiting_runs()],
    "push": lambda _: pushed(),
}


def main() -> None:
    """Measure all peers, print the page, and write it to the file that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=15_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", choices=SECTIONS, help="one section of the page")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.only:
        print("\n".join(SECTIONS[arguments.only](arguments)))
        return
    rounds = "one round" if arguments.rounds == 1 else f"median of {arguments.rounds} rounds in one run"
    packages = ", ".join(f"{name} {version(name)}" for name in ("websockets", "aiohttp", "uvloop", "msgspec"))
    lines = [
        "# Benchmarks",
        "",
        f"{time.strftime('%Y-%m-%d')}, {platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"{packages}. One process each, {arguments.connections:,} connections on loopback, no compression, server and "
        f"load on the same cores; {rounds} of `make bench`. Use the ratios: "
        "they hold elsewhere, the numbers do not.",
        "",
    ]
    for section in SECTIONS.values():
        lines += [*section(arguments), ""]
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        arguments.write.write_text(text)


if __name__ == "__main__":
    main()
