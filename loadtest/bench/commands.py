"""Commands over websockets: how long a round trip takes, and the CPU of each.

`python -m loadtest.bench.commands [--rate 1000] [--seconds 20] [--connections 100] [--gateways 2]`. With two gateways
and a broker all lamps are at one, and all apps at the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

from gateway.identity.key_files import local_key
from loadtest.bench.ingest import start
from loadtest.bench.process import LoadProcess
from loadtest.processes.broker import BrokerProcess

WARM_S = 2.0
SETTINGS = ("connections.messages_per_s=0",)
_CLIENT = "loadtest.bench.commands_client"


def measure(rate_per_s: float, seconds: float, connections: int, gateways: int) -> dict[str, float]:
    """Times in ms, CPU in µs a command, of all gateways together."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runner = stack.enter_context(asyncio.Runner())
        secret = local_key(folder).decode()
        # Named, so that both gateways have one key.
        settings = [*SETTINGS, f"auth.secret_file={folder / 'key'}"]
        if gateways > 1:
            broker = BrokerProcess(folder)
            runner.run(broker.start())
            stack.callback(lambda: runner.run(broker.kill()))
            settings.append(f"broker.url={broker.url}")
        servers = [start(folder / f"{number}", settings)[0] for number in range(gateways)]
        loads = [LoadProcess(_CLIENT, port=servers[0].port, secret=secret)]
        if gateways == 1:
            loads[0].do("connect", count=connections)
        else:
            loads[0].do("connect", count=connections // 2)
            apps = {"prefix": "app", "lamps_elsewhere": connections // 2}
            loads.append(LoadProcess(_CLIENT, port=servers[1].port, secret=secret, **apps))
            loads[1].do("connect", count=connections // 2)
        sender = loads[-1]
        sender.do("send", seconds=WARM_S, rate_per_s=rate_per_s)
        cpu_s = sum(server.cpu_s() for server in servers)
        row = sender.do("send", seconds=seconds, rate_per_s=rate_per_s)
        row["cpu_us"] = (sum(server.cpu_s() for server in servers) - cpu_s) / row["sent"] * 1e6
        for load in loads:
            load.stop()
        for server in servers:
            server.stop()
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--connections", type=int, default=100, help="half of them lamps, half apps")
    parser.add_argument("--gateways", type=int, choices=(1, 2), default=1)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.rate, arguments.seconds, arguments.connections, arguments.gateways)))


if __name__ == "__main__":
    main()
