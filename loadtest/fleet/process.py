"""A fleet process, which holds some of the devices: `python -m loadtest.fleet.process`.

The first line of standard input holds the options as JSON, each further line a command (commands.py); the end of the
input is a `stop`. Standard output: see output.py. Exit 2: the options or the limit of open files do not suffice; 3: a
target refuses. Both are known before the first device connects.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import signal
import sys
from pathlib import Path

import msgspec
import uvloop

from gateway.adapters.machine import make_room_for_files
from gateway.errors import HeiwaError, SettingsError
from loadtest.fleet import commands, replay
from loadtest.fleet import options as fleet_options
from loadtest.fleet.connector import Connector
from loadtest.fleet.device_fleet import DeviceFleet
from loadtest.fleet.input_lines import InputLines
from loadtest.fleet.output import write_line
from loadtest.fleet.probe import probe, tokens_of
from loadtest.fleet.tracks import tracks

# Standard streams, the loop's own, a probe.
FILE_RESERVE = 64


def raise_file_limit(devices: int) -> None:
    """Raises SettingsError when even the hard limit is too low for this number of devices."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and devices + FILE_RESERVE > hard:
        raise SettingsError(
            "devices",
            f"{devices} devices need {devices + FILE_RESERVE} open files, and a process may have {hard}: give this "
            f"one a maximum of {max(0, hard - FILE_RESERVE)} and start more of them, or raise the limit (ulimit -Hn)",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    make_room_for_files(devices + FILE_RESERVE)


async def run() -> None:
    """The whole life of the process. Raises HeiwaError for what is wrong before the first connection."""
    lines = InputLines()
    options = fleet_options.load(lines.next())
    raise_file_limit(options.devices)
    tracks(options.tracks)
    recorded = replay.scan(Path(options.replay)) if options.replay else None
    connector = Connector(options, tokens_of(options))
    if options.probe:
        await probe(connector, options)
    fleet = DeviceFleet(options, connector, write_line, recorded)
    loop = asyncio.get_running_loop()

    def on_line(line: bytes) -> None:
        if not line:
            fleet.stop()
        elif line.strip():
            try:
                fleet.do(commands.decode(line))
            except (HeiwaError, msgspec.DecodeError) as error:
                fleet.output.tell("bad_command", command=line.decode(errors="replace")[:200], error=str(error))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, fleet.stop)
    gc.collect()
    gc.freeze()
    fleet.output.tell("ready", devices=options.devices)
    lines.follow(on_line, loop)
    await fleet.run()


def main() -> None:
    """Run the process; what goes wrong is an event on standard output and a line on standard error."""
    # Objects of a connection live long and have no cycles: look for garbage rarely.
    gc.set_threshold(50_000, 50, 100)
    try:
        uvloop.run(run())
    except HeiwaError as error:
        print(json.dumps({"event": "error", "message": str(error)}), flush=True)
        print(f"heiwa fleet: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
