"""A fleet process without sockets: speaks the protocol of `loadtest.fleet.process`, and pretends that all goes well.

`fake_fleet.py [--die-after N [--dies PROCESS]] [--acked N]`, with its options in the first line of its input. It ends
with exit code 7 after N samples with connections, and claims N acknowledged events that no gateway has ever heard of.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
import time
from pathlib import Path

TICK_S = 0.2


def read(commands: queue.Queue[str]) -> None:
    """All lines; the end of the input is a stop."""
    for line in sys.stdin:
        commands.put(line)
    commands.put('{"do":"stop"}')


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--die-after", type=int, default=0)
    parser.add_argument("--dies", default="")
    parser.add_argument("--acked", type=int, default=0)
    arguments = parser.parse_args()
    options = json.loads(sys.stdin.readline())
    commands: queue.Queue[str] = queue.Queue()
    threading.Thread(target=read, args=(commands,), daemon=True).start()
    connected = connects = samples = 0
    if arguments.acked:
        line = "\t".join((options["account"], f"{options['prefix']}0", options["run"], f"1-{arguments.acked}"))
        Path(options["acked_file"]).write_text(f"{line}\n")
    print(json.dumps({"event": "ready", "devices": options["devices"]}), flush=True)
    while True:
        sample = {
            "process": options["process"],
            "time_ms": int(time.time() * 1000),
            "devices": options["devices"],
            "connected": connected,
            "connects": connects,
            "sent": arguments.acked,
            "acked": arguments.acked,
        }
        print(json.dumps(sample), flush=True)
        samples += connected > 0
        if arguments.die_after and arguments.dies in options["process"] and samples >= arguments.die_after:
            print("out of luck", file=sys.stderr)
            return 7
        try:
            do = json.loads(commands.get(timeout=TICK_S))["do"]
        except queue.Empty:
            continue
        if do == "connect":
            connected = connects = options["devices"]
        elif do == "stop":
            print(json.dumps({**sample, "connected": 0}), flush=True)
            return 0


if __name__ == "__main__":
    sys.exit(main())
