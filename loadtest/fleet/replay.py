"""A recording of a gateway's arrivals, read as steps of the devices of a fleet. No loop, no clock.

The file is read twice, line by line, so that it may be larger than memory: by `scan`, which finds the devices and
checks the file, and while it is played.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from msgspec.structs import replace

from gateway.errors import RecordingError, SettingsError
from gateway.recording.format import Connected, Disconnected, Dropped, Line, Said, read
from loadtest import bounded
from loadtest.scenario.parsing import check_actions
from loadtest.scenario.scenario import EventsSection, Scenario

CONNECT, DISCONNECT, EVENTS, PING, AUTH = range(5)
_RESENT: Final[Mapping[str, int]] = {"location": EVENTS, "locations": EVENTS, "ping": PING, "auth": AUTH}
# After the last step, so that nothing is cut off.
MARGIN_S = 1.0


class ReplayStep(NamedTuple):
    """What device `device` does, `at_ms` after the beginning; `events` and `size` (bytes) are those of its message."""

    at_ms: int
    device: int
    do: int
    events: int = 0
    size: int = 0


class RecordingSummary:
    """What a recording holds. Devices are numbered in the order of their first lines.

    `here` are the devices that were connected when it began: their first line is no `connect`. `unsent` counts by type
    the messages that cannot be sent again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers: dict[str, int] = {}
        self.here: set[int] = set()
        self.classes: dict[int, str] = {}
        self.connects = self.events = self.dropped = self.last_ms = 0
        self.unsent: Counter[str] = Counter()

    @property
    def devices(self) -> int:
        return len(self.numbers)

    def here_of(self, first: int, devices: int) -> list[int]:
        """Those of `here` among the `devices` devices from `first` on, counted from 0."""
        return sorted(number - first for number in self.here if first <= number < first + devices)

    def classes_of(self, first: int, devices: int) -> dict[int, str]:
        """The device classes of the `devices` devices from `first` on, by number counted from 0; "" is left out."""
        return {n - first: name for n, name in self.classes.items() if first <= n < first + devices}

    def text(self) -> str:
        """A sentence about the recording, and what cannot be played."""
        said = (
            f"the recording has {self.devices} devices, {self.connects} connects and {self.events} events in "
            f"{self.last_ms / 1000:.1f} s"
        )
        if self.unsent:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.unsent.items()))
            said += f"; messages that cannot be sent again: {kinds}"
        return said + (f"; {self.dropped} lines are missing in it" if self.dropped else "")

    def add(self, line: Line) -> None:
        """Take the next line."""
        self.last_ms = line.at_ms
        if isinstance(line, Dropped):
            self.dropped += line.lines
            return
        new = line.device not in self.numbers
        number = self.numbers.setdefault(line.device, len(self.numbers))
        if new and not isinstance(line, Connected):
            self.here.add(number)
        if isinstance(line, Connected):
            self.connects += 1
            if line.device_class:
                self.classes[number] = line.device_class
        elif isinstance(line, Said):
            if _resent(line) is None:
                self.unsent[line.type] += 1
            else:
                self.events += line.events


def scan(path: Path) -> RecordingSummary:
    """Read a whole recording. Raises RecordingError when it cannot be played."""
    summary = RecordingSummary(path)
    for line in lines(path):
        summary.add(line)
    if not summary.devices:
        raise RecordingError(f"{path} holds no device; record for longer")
    return summary


def lines(path: Path) -> Iterator[Line]:
    """The lines of a file. Raises RecordingError."""
    try:
        with path.open("rb") as file:
            yield from read(_lines(file, path), str(path))
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from error


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        yield from bounded.lines(file)
    except ValueError as error:
        raise RecordingError(f"{path}: {error}") from error


def moments(found: Iterable[Line], numbers: Mapping[str, int], here: Collection[int]) -> Iterator[ReplayStep]:
    """The steps of the devices, in the order of time.

    A device has one connection at a time: a second one replaces the first, whose end is then left out. A connect
    precedes a message of a device that is not connected (because its connect was dropped from the recording).
    """
    # The connection of each device; 0: the one that it had at the beginning, whose number is not known.
    current: dict[int, int] = dict.fromkeys(here, 0)
    for line in found:
        if isinstance(line, Dropped):
            continue
        device = numbers.get(line.device)
        if device is None:
            continue  # the recording has gone on since it was read
        if isinstance(line, Connected):
            current[device] = line.connection
            yield ReplayStep(line.at_ms, device, CONNECT)
        elif isinstance(line, Disconnected):
            if current.get(device) in (0, line.connection):
                del current[device]
                yield ReplayStep(line.at_ms, device, DISCONNECT)
        elif (do := _resent(line)) is not None:
            if device not in current:
                yield ReplayStep(line.at_ms, device, CONNECT)
            # The first message of a device that was connected at the beginning shows the number of its connection.
            current[device] = current.get(device) or line.connection
            yield ReplayStep(line.at_ms, device, do, line.events, line.bytes)


def fit(scenario: Scenario, summary: RecordingSummary, duration_s: float | None) -> Scenario:
    """The scenario with the recording's devices, events and duration; `duration_s` cuts it. Raises SettingsError."""
    took_s = summary.last_ms / 1000 / scenario.replay.speed + MARGIN_S
    fitted = replace(
        scenario,
        fleet=replace(scenario.fleet, devices=summary.devices),
        events=EventsSection(kind="periodic", period_s=0),
        run=replace(scenario.run, duration_s=took_s if duration_s is None else min(took_s, duration_s)),
    )
    if scenario.fleet.churn_period_s:
        raise SettingsError("fleet.churn_period_s", "a recording says when its devices leave; remove this key")
    check_actions(fitted)
    return fitted


def _resent(line: Said) -> int | None:
    """The step that sends a message again; None: it cannot be sent again."""
    do = _RESENT.get(line.type)
    return None if do == EVENTS and not line.events else do
