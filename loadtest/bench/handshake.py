"""CPU of a handshake through `heiwa serve`, a token each, beside a bare event loop that only answers 101.

`python -m loadtest.bench.handshake [--connections 8000] [--rate-per-s 1000] [--rounds 3]`

Both get the same requests from the same load, in turns. With `welcome` means until every device was greeted, which is a
write and a look of the wheel more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from gateway.identity.key_files import local_key
from loadtest.bench.ingest import start
from loadtest.bench.process import LoadProcess, ServerProcess

BARE = "bare"
OURS = "heiwa"
# The welcome comes 0.3 s after the 101 and a tick of the wheel.
GREETED_S = 0.8


def measure(peer: str, connections: int, rate_per_s: float) -> dict[str, float]:
    """CPU µs a handshake of one fresh server, and its RSS."""
    with tempfile.TemporaryDirectory() as folder:
        if peer == BARE:
            server = ServerProcess([sys.executable, "-m", "loadtest.bench.peers.bare_server"])
            secret = local_key(Path(folder)).decode()
        else:
            server, _, key = start(Path(folder))
            secret = key.decode()
        load = LoadProcess(port=server.port, secret=secret, subprotocol="heiwa.v1.json" if peer == OURS else None)
        load.do("connect", count=500, rate_per_s=rate_per_s)
        time.sleep(GREETED_S)
        rss, private, cpu_s = server.rss_bytes(), server.private_bytes(), server.cpu_s()
        opened = load.do("connect", count=connections, rate_per_s=rate_per_s)
        if opened["open"] != 500 + connections:
            raise RuntimeError(f"{peer}: only {opened}")
        time.sleep(GREETED_S)
        row = {
            "handshake_us": (server.cpu_s() - cpu_s) / connections * 1e6,
            "rss_bytes": (server.rss_bytes() - rss) / connections,
            "private_bytes": (server.private_bytes() - private) / connections,
        }
        load.stop()
        server.stop()
        return row


def compare(connections: int, rate_per_s: float, rounds: int) -> dict[str, float]:
    """Medians of rounds that alternate, and what one costs of the other."""
    rows: dict[str, list[dict[str, float]]] = {BARE: [], OURS: []}
    for _ in range(rounds):
        for peer, seen in rows.items():
            seen.append(measure(peer, connections, rate_per_s))
    found = {
        f"{peer}_{name}": statistics.median(row[name] for row in seen)
        for peer, seen in rows.items()
        for name in seen[0]
    }
    return {**found, "ratio": found["heiwa_handshake_us"] / found["bare_handshake_us"]}


def table(row: dict[str, float], rate_per_s: float) -> list[str]:
    """Lines of the page."""
    return [
        f"| connects, {rate_per_s:,.0f} a second, through the real program | CPU µs each | private bytes each |",
        "| --- | ---: | ---: |",
        f"| **`heiwa serve`, an HS256 token, `welcome` included** | {row['heiwa_handshake_us']:.0f} "
        f"| {row['heiwa_private_bytes']:,.0f} |",
        f"| an event loop that answers 101 and does nothing else ({1 / row['ratio']:.2g} ×) "
        f"| {row['bare_handshake_us']:.0f} | {row['bare_private_bytes']:,.0f} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=8000)
    parser.add_argument("--rate-per-s", type=float, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    row = compare(arguments.connections, arguments.rate_per_s, arguments.rounds)
    print(json.dumps({name: round(value, 2) for name, value in row.items()}), flush=True)


if __name__ == "__main__":
    main()
