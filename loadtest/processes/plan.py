"""How a fleet is split: over machines, processes, gateways, source addresses; and whether the machine can hold it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from gateway.errors import SettingsError
from loadtest.fleet.options import loopback
from loadtest.fleet.replay import RecordingSummary
from loadtest.scenario.deploy import most_held
from loadtest.scenario.scenario import Scenario, arrival

# Files of a process besides its devices: standard streams, loop, stores, logs.
FILE_RESERVE = 256
# Two ends of each websocket, when gateways and fleet share the machine.
FILES_A_CONNECTION = 2
# About what is needed, rounded up: 4 KB of kernel a socket and 2 KB of each process a connection, and bare processes.
BYTES_AN_END = 6_000
BYTES_A_PROCESS = 50_000_000
# Loopback addresses from here on are the fleet's; one has 28,000 ports.
SOURCES_EACH = 4
RECONNECTS_A_CORE_S = 200.0
# What a device of a recording keeps at most while it is not connected.
STORE = 1_000_000
MAX_PROCESSES = 1000


class MachineShare(NamedTuple):
    """Part `number` of `of` machines, counted from 1."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class FleetSlice(Struct, frozen=True):
    """What one fleet process holds: devices `first` to `first + devices - 1`, from its own source addresses.

    `opening` are those of them that connect at the beginning.
    """

    name: str
    first: int
    devices: int
    sources: list[str]
    opening: int


def share(text: str) -> MachineShare:
    """`3/8`. Raises SettingsError."""
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise SettingsError("--share", f"{text!r} is not a share; write 3/8 for the third of eight machines")
    return MachineShare(int(match[1]), int(match[2]))


def parts(scenario: Scenario, mine: MachineShare, recorded: RecordingSummary | None = None) -> list[FleetSlice]:
    """The fleet processes of this machine. All machines together hold each device once.

    Of a recording only the devices connect at the beginning that were connected when it began.
    """
    devices = scenario.fleet.devices
    begin, end = (devices * number // mine.of for number in (mine.number - 1, mine.number))
    if begin == end:
        raise SettingsError("--share", f"{devices} devices leave none for share {mine}")
    count = -(-(end - begin) // scenario.fleet.devices_each)
    if count > MAX_PROCESSES:
        raise SettingsError(
            "fleet.devices_each", f"{count} fleet processes are more than {MAX_PROCESSES}; give it more"
        )
    cuts = [begin + (end - begin) * number // count for number in range(count + 1)]

    def part(number: int, first: int, devices: int) -> FleetSlice:
        opening = devices if recorded is None else len(recorded.here_of(first, devices))
        return FleetSlice(f"fleet-{mine.number}.{number + 1}", first, devices, sources(number), opening)

    return [part(number, first, after - first) for number, (first, after) in enumerate(pairwise(cuts))]


def sources(number: int) -> list[str]:
    """The loopback addresses of a fleet process: 127.0.0.2, … 127.0.1.2, …

    Linux looks for a free port from address to address among 14,116 first (half of its ephemeral ports): with more
    connections than that to one gateway, each new one costs it milliseconds.
    """
    return [loopback(number * SOURCES_EACH + one) for one in range(SOURCES_EACH)]


def gateways(scenario: Scenario, devices: int) -> int:
    """How many gateways hold so many devices; of a deploy the fewer of old and new ones."""
    if scenario.deploy is not None:
        return min(scenario.deploy.old, scenario.deploy.replacing)
    return -(-devices // scenario.gateways.connections_each)


def check_files(scenario: Scenario, devices: int, count: int, limit: int, system_free: int) -> None:
    """`limit` files a process, `system_free` left of the system's table. Raises SettingsError saying what to change."""
    own = count > 0
    each = min(scenario.fleet.devices_each, devices)
    if each + FILE_RESERVE > limit:
        raise SettingsError(
            "fleet.devices_each",
            f"{each} devices in one process do not fit its limit of {limit} open files; raise the limit (ulimit -Hn) "
            f"or use --set fleet.devices_each={max(1, limit - FILE_RESERVE)}",
        )
    held = 0 if not own else -(-devices // count) if scenario.deploy is None else most_held(scenario.deploy, devices)
    if held + FILE_RESERVE > limit:
        raise SettingsError(
            "--gateways",
            f"{devices} devices on {count} gateways ({held} on one of them) do not fit their limit of {limit} open "
            "files each; use at least "
            f"--gateways {-(-devices // max(1, limit - FILE_RESERVE))}",
        )
    needed = devices * (FILES_A_CONNECTION if own else 1)
    if needed > system_free:
        raise SettingsError(
            "--devices",
            f"{devices} devices need {needed} files and the system has {system_free} left; raise fs.file-max or use "
            f"--devices {system_free // (needed // devices)}",
        )


def check_memory(devices: int, fleets: int, count: int, available_bytes: int) -> None:
    """Raises SettingsError when the processes of this machine, `count` gateways among them, will not fit."""
    ends = 2 if count else 1
    needed = devices * ends * BYTES_AN_END + (fleets + count) * BYTES_A_PROCESS
    if needed > available_bytes:
        raise SettingsError(
            "--devices",
            f"{devices} devices need about {needed / 1e9:.1f} GB in {fleets + count} processes, and "
            f"{available_bytes / 1e9:.1f} GB are available; take fewer, or more machines with --share",
        )


def too_fast(scenario: Scenario, devices: int, cores: int) -> str:
    """What to say of a deploy that asks for more reconnects in a real second than this machine's cores take; "": fine.

    A reconnect is two ends of a close and of a handshake with a token, a millisecond of CPU and more.
    """
    deploy = scenario.deploy
    if deploy is None or deploy.order != "rolling" or not deploy.drain or not deploy.delay_s:
        return ""
    leaving = min(devices, most_held(deploy, devices) * -(-deploy.old // deploy.waves))
    a_second, calm = leaving / deploy.delay_s * deploy.speed, cores * RECONNECTS_A_CORE_S
    if a_second <= calm:
        return ""
    speed = max(1.0, math.floor(deploy.speed * calm / a_second * 2) / 2)
    return (
        f"about {a_second:,.0f} reconnects a real second are more than {cores} cores take evenly (about {calm:,.0f}): "
        f"with --speed {speed:g} the report is of the gateways and not of this machine"
    )


def expected_s(scenario: Scenario, devices: int, count: int) -> dict[str, float]:
    """About how long each phase takes, in their order; for a person who waits."""
    connect, part = scenario.connect, devices / scenario.fleet.devices
    rate = connect.rate_per_s * part if connect.kind != "at_once" else 1000.0
    return {
        "gateways": 1.0 + count / 2,
        "fleet": 2.0 + devices / 20_000,
        "connect": min(connect.within_s, 1 + devices / rate if rate else connect.within_s),
        "measure": scenario.run.duration_s if scenario.deploy is None else scenario.deploy.expected_s(),
        "settle": min(5.0, scenario.run.settle_s),
        "stop": 2.0 + devices / 5000,
        "judge": 1.0 + devices / 20_000,
    }


class Common(NamedTuple):
    """What all fleet processes of a run are told alike. `local`: the targets are on this machine's loopback."""

    urls: Sequence[str]
    secret: str
    seed: int
    run: str
    local: bool
    start_at_ms: int


def _replayed(scenario: Scenario) -> dict[str, Any]:
    """A device that is not connected at its moment keeps what it would have sent, however much that is."""
    return {"replay": str(Path(scenario.replay.file).absolute()), "speed": scenario.replay.speed, "store": STORE}


def fleet_options(scenario: Scenario, part: FleetSlice, common: Common, acked_file: str) -> dict[str, Any]:
    """The options of one fleet process; rates are this process's part of the fleet's."""
    fleet, own = scenario.fleet, part.devices / scenario.fleet.devices
    return {
        "process": part.name,
        "urls": list(common.urls),
        "devices": part.devices,
        "first": part.first,
        "prefix": fleet.prefix,
        "secret": common.secret,
        "account": fleet.account,
        "sources": part.sources if common.local else [],
        "client_models": dict(fleet.client_models),
        "connect": msgspec.to_builtins(arrival(scenario.connect, own)),
        "events": msgspec.to_builtins(arrival(scenario.events, own)),
        "tracks": fleet.tracks,
        "seed": common.seed,
        "run": common.run,
        "start_at_ms": common.start_at_ms,
        "slow_readers": fleet.slow_readers,
        "half_open": fleet.half_open,
        "half_open_s": fleet.half_open_s,
        "half_open_within_s": [fleet.half_open_after_s, fleet.half_open_within_s],
        "connects_at_once": scenario.connect.at_a_time,
        "churn_period_s": fleet.churn_period_s,
        "acked_file": acked_file,
        **(_replayed(scenario) if scenario.replay.file else {}),
        **({"routing": scenario.deploy.routing, "speed": scenario.deploy.speed} if scenario.deploy else {}),
    }
