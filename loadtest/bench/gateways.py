"""Commands over two gateways and a broker: how long a round trip takes, and what it costs whom.

`python -m loadtest.bench.gateways [--rate 1000] [--seconds 20]`. Commands come over HTTP, half of them through the
gateway that does not hold the lamp; latency counts from when each was due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

import uvloop

from loadtest.processes import machine
from loadtest.processes.broker import BrokerProcess
from loadtest.processes.gateways import GatewayProcess, gateway_name, make_secret
from loadtest.results.commanded import figures
from loadtest.results.records import Commanded
from loadtest.run.lamps import Lamps
from loadtest.scenario.scenario import LampsSection

LAMPS = 50
WARM_S = 2.0
SETTINGS = {"listen.operations_maximum": 2000, "connections.messages_per_s": 0}


async def measure(rate_per_s: float, seconds: float) -> dict[str, float]:
    """Times in ms, CPU in µs a command. Raises HeiwaError when something is missing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        secret = make_secret(folder / "secret")
        broker = BrokerProcess(folder)
        await broker.start()
        gateways = [GatewayProcess(*gateway_name(1, folder, number)) for number in (1, 2)]
        for gateway in gateways:
            await gateway.start(folder / "secret", {**SETTINGS, "broker.url": broker.url})
        commands: list[Commanded] = []
        section = LampsSection(each=LAMPS, rate_per_s=rate_per_s)
        lamps = Lamps(section, secret, "default", 1, commands.append)
        try:
            await lamps.start(gateways)
            await asyncio.sleep(WARM_S)
            commands.clear()
            pids = {"gateways": [gateway.pid for gateway in gateways], "broker": [broker.pid]}
            before = {name: _cpu_s(of) for name, of in pids.items()}
            await asyncio.sleep(seconds)
            spent = {name: _cpu_s(of) - before[name] for name, of in pids.items()}
            done = len(commands)
        finally:
            await lamps.stop()
            await asyncio.gather(*(gateway.stop() for gateway in gateways))
            await broker.kill()
    found = {name: value for name, value in figures(commands, []).items() if value is not None}
    return {**found, "per_s": done / seconds, **{f"{name}_cpu_us": cpu / done * 1e6 for name, cpu in spent.items()}}


def _cpu_s(pids: list[int]) -> float:
    readings = [machine.process("", "gateway", pid) for pid in pids]
    return sum(reading.cpu_s for reading in readings if reading is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(arguments.rate, arguments.seconds))))


if __name__ == "__main__":
    main()
