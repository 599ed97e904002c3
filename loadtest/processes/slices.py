"""How a fleet is split over machines, processes, gateways and source addresses."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct

from gateway.errors import SettingsError
from loadtest.fleet.replay import RecordingSummary
from loadtest.fleet.targets import loopback
from loadtest.scenario.scenario import Scenario

# Loopback addresses of one fleet process; each has 28,000 ephemeral ports.
SOURCES_EACH = 4
MAX_PROCESSES = 1000


class MachineShare(NamedTuple):
    """Share `number` of `of`, counted from 1, when several machines run one scenario together."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class FleetSlice(Struct, frozen=True):
    """What one fleet process holds: devices `first` to `first + devices - 1`, from its own source addresses.

    `opening` is the number of those that connect at the beginning.
    """

    name: str
    first: int
    devices: int
    sources: list[str]
    opening: int


def share(text: str) -> MachineShare:
    """Parse `3/8`. Raises SettingsError."""
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise SettingsError("--share", f"{text!r} is not a share; write 3/8 for the third of eight machines")
    return MachineShare(int(match[1]), int(match[2]))


def slices(scenario: Scenario, mine: MachineShare, recorded: RecordingSummary | None = None) -> list[FleetSlice]:
    """The fleet processes of this machine; the machines together hold each device once. Raises SettingsError.

    With a recording only those devices connect at the beginning that were connected when it began.
    """
    devices = scenario.fleet.devices
    begin, end = (devices * number // mine.of for number in (mine.number - 1, mine.number))
    if begin == end:
        raise SettingsError("--share", f"{devices} devices leave none for share {mine}")
    count = -(-(end - begin) // scenario.fleet.devices_each)
    if count > MAX_PROCESSES:
        raise SettingsError(
            "fleet.devices_each", f"{count} fleet processes are more than {MAX_PROCESSES}; give each more devices"
        )
    cuts = [begin + (end - begin) * number // count for number in range(count + 1)]

    def slice_of(number: int, first: int, devices: int) -> FleetSlice:
        opening = devices if recorded is None else len(recorded.here_of(first, devices))
        return FleetSlice(f"fleet-{mine.number}.{number + 1}", first, devices, sources(number), opening)

    return [slice_of(number, first, after - first) for number, (first, after) in enumerate(pairwise(cuts))]


def sources(number: int) -> list[str]:
    """The loopback addresses of a fleet process: 127.0.0.2, … 127.0.1.2, …

    Linux looks for a free port from address to address among 14,116 first (half of its ephemeral ports): with more
    connections than that to one gateway, each new one costs it milliseconds.
    """
    return [loopback(number * SOURCES_EACH + one) for one in range(SOURCES_EACH)]


def gateways(scenario: Scenario, devices: int) -> int:
    """The number of gateways for this number of devices; in a deploy the smaller number of old and new ones."""
    if scenario.deploy is not None:
        return min(scenario.deploy.old, scenario.deploy.replacing)
    return -(-devices // scenario.gateways.connections_each)
