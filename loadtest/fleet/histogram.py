"""HDR histograms of latencies in µs, added up over seconds, processes and machines."""

from __future__ import annotations

from hdrh.histogram import HdrHistogram

LOWEST_US = 1
HIGHEST_US = 24 * 3600 * 1_000_000
DIGITS = 3


class Latencies:
    """A histogram that is made with its first value (each takes 0.2 MB)."""

    __slots__ = ("_histogram",)

    def __init__(self) -> None:
        self._histogram: HdrHistogram | None = None

    def add(self, encoded: str) -> None:
        """Add a histogram in HdrHistogram's compressed base64 form; "": an empty one."""
        if not encoded:
            return
        if self._histogram is None:
            self._histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        self._histogram.decode_and_add(encoded)

    @property
    def count(self) -> int:
        return int(self._histogram.total_count) if self._histogram else 0

    def percentiles_ms(self, *percents: float) -> list[float | None]:
        """The values at these percentiles; 100 is the maximum. None for each when the histogram is empty."""
        histogram = self._histogram
        if histogram is None or not histogram.total_count:
            return [None] * len(percents)
        found = histogram.get_percentile_to_value_dict(list(percents))
        greatest = histogram.get_max_value()
        return [min(found[percent], greatest) / 1000 for percent in percents]
