"""What a fleet counts and measures, and the sample of each second that is made of it."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

from hdrh.histogram import HdrHistogram

from loadtest.histogram import DIGITS, HIGHEST_US, LOWEST_US

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Second:
    """The latencies of one second. The histogram exists from the first value on (each takes 0.2 MB)."""

    __slots__ = ("_histogram",)

    def __init__(self) -> None:
        self._histogram: HdrHistogram | None = None

    def record(self, seconds: float) -> None:
        if self._histogram is None:
            self._histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        self._histogram.record_value(min(HIGHEST_US, max(LOWEST_US, int(seconds * 1e6))))

    def take(self) -> str:
        """HdrHistogram's compressed base64 form, empty when nothing was recorded; then begin anew."""
        histogram = self._histogram
        if histogram is None or not histogram.total_count:
            return ""
        encoded: str = histogram.encode().decode()
        histogram.reset()
        return encoded


class Tally:
    """Counters since the start; latencies of the current second (`ack` from the intended moment of the event)."""

    def __init__(self) -> None:
        self.connects = 0
        self.closed: Counter[int] = Counter()
        self.unexpected = 0
        self.refused: Counter[int] = Counter()
        self.goaways = 0
        self.ack = Second()
        self.connect = Second()
        self.gap = Second()


def cpu_s() -> float:
    """User and system time of this process."""
    return time.process_time()


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
