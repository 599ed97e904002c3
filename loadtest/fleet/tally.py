"""What a fleet process counts and measures between two samples, and its own CPU and memory."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from loadtest.fleet.histogram import DIGITS, HIGHEST_US, LOWEST_US
from loadtest.fleet.sample import Bin

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class LatencyRecorder:
    """The latencies of the current second. The histogram exists from the first value on (each takes 0.2 MB)."""

    __slots__ = ("_histogram",)

    def __init__(self) -> None:
        self._histogram: HdrHistogram | None = None

    def record(self, seconds: float) -> None:
        if self._histogram is None:
            self._histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        self._histogram.record_value(min(HIGHEST_US, max(LOWEST_US, int(seconds * 1e6))))

    def take(self) -> str:
        """Return HdrHistogram's compressed base64 form, empty when nothing was recorded, and begin anew."""
        histogram = self._histogram
        if histogram is None or not histogram.total_count:
            return ""
        encoded: str = histogram.encode().decode()
        # A new histogram takes a ninth of the time that a reset takes. The old one holds its encoder, which holds it:
        # the collector, which looks here once in minutes, would find 0.2 MB a second.
        histogram.encoder.histogram = None
        self._histogram = None
        return encoded


class Bins:
    """Connects and lost connections by simulated second: bin n covers n / speed to (n + 1) / speed s."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._counts: dict[int, list[int]] = {}

    def connected(self, wall_s: float) -> None:
        """A device connected at this moment, s since the Unix epoch."""
        self._of(wall_s)[0] += 1

    def lost(self, wall_s: float) -> None:
        """A connection ended."""
        self._of(wall_s)[1] += 1

    def take(self) -> list[Bin]:
        """Return what was counted since the last call, in the order of time."""
        taken = [(number, *self._counts[number]) for number in sorted(self._counts)]
        self._counts = {}
        return [(number, connects, lost) for number, connects, lost in taken]

    def _of(self, wall_s: float) -> list[int]:
        return self._counts.setdefault(int(wall_s * self._speed), [0, 0])


class FleetTally:
    """Counters since the start; the latencies and the longest tick delay of the current second, as in `Sample`.

    `abnormal` counts by client model (its index in the fleet's list) the connections that ended without a close frame
    and that the device did not break itself. `commands` counts what `FleetCounts` has of commands and watchers.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.bins = Bins(speed)
        self.late_s = 0.0
        self.abnormal: Counter[int] = Counter()
        self.connects = 0
        self.closed: Counter[int] = Counter()
        self.unexpected = 0
        self.refused: Counter[int] = Counter()
        self.goaways = 0
        self.ack = LatencyRecorder()
        self.faulty_ack = LatencyRecorder()
        self.connect = LatencyRecorder()
        self.gap = LatencyRecorder()
        self.commands: Counter[str] = Counter()
        self.command = LatencyRecorder()
        self.watch = LatencyRecorder()

    def take(self) -> dict[str, Any]:
        """Return the fields of `Sample` that are counted here; the latencies, the bins and the delay begin anew."""
        late_s, self.late_s = self.late_s, 0.0
        return {
            "connects": self.connects,
            "closed": {str(code): count for code, count in self.closed.items()},
            "unexpected": self.unexpected,
            "refused": {str(status): count for status, count in self.refused.items()},
            "goaways": self.goaways,
            "ack": self.ack.take(),
            "faulty_ack": self.faulty_ack.take(),
            "connect": self.connect.take(),
            "gap": self.gap.take(),
            "command": self.command.take(),
            "watch": self.watch.take(),
            **self.commands,
            "bins": self.bins.take(),
            "late_ms": round(late_s * 1000),
        }


def cpu_s() -> float:
    """User and system time of this process."""
    return time.process_time()


def rss_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
