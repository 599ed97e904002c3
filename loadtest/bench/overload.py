"""Admission: with 5,000 devices connected and sending, 10,000 connects are offered within 2 s by two processes.

The connected ones keep their acks (p99 before, during, after); the refused get 503 with Retry-After; nobody is closed
silently. `python -m loadtest.bench.overload [--admit 500] [--set section.key=value]…`
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from loadtest.bench.ingest import start
from loadtest.bench.process import LoadProcess

CONNECTED, OFFERED, OFFERED_S, RATE_PER_S, PHASE_S = 5000, 10_000, 2.0, 1000, 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--admit", type=float, default=500, help="connections.handshakes_per_s")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    more = [f"connections.handshakes_per_s={arguments.admit}", *arguments.set]
    with tempfile.TemporaryDirectory() as folder:
        server, _, key = start(Path(folder), more)
        secret = key.decode()
        fleet = LoadProcess("loadtest.bench.paced_client", port=server.port, secret=secret, prefix="fleet")
        opened = fleet.do("connect", count=CONNECTED, rate_per_s=arguments.admit * 0.9)
        print(json.dumps({"connected": opened["open"]}), flush=True)
        fleet.tell("send", seconds=3 * PHASE_S, rate_per_s=RATE_PER_S)
        began_s = time.perf_counter()
        crowds = [
            LoadProcess("loadtest.bench.client", port=server.port, secret=secret, prefix=f"crowd{n}") for n in (1, 2)
        ]
        time.sleep(max(0.0, began_s + PHASE_S - time.perf_counter()))
        offered_s = time.perf_counter()
        for crowd in crowds:
            crowd.tell("connect", count=OFFERED // 2, rate_per_s=OFFERED / 2 / OFFERED_S, at_once=OFFERED)
        for crowd in crowds:
            print(json.dumps(crowd.answer()), flush=True)
        over_s = time.perf_counter()
        print(json.dumps(fleet.answer()), flush=True)
        for name, since, until in (
            ("before", began_s + 2, offered_s),
            ("during", offered_s, over_s),
            ("after", over_s, over_s + PHASE_S),
        ):
            row = fleet.do("latencies", since_s=since, until_s=until)
            print(json.dumps({name: {key: round(value, 1) for key, value in row.items()}}), flush=True)
        for process in (fleet, *crowds):
            process.stop()
        server.stop()


if __name__ == "__main__":
    main()
