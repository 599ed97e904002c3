"""Percentiles of acknowledgement times in constant memory."""

from __future__ import annotations

import math

# Buckets grow by 2 %, so a percentile is at most 2 % above the true one.
GROWTH = 1.02
SMALLEST_MS = 0.01
_LOG_GROWTH = math.log(GROWTH)


class Latency:
    """A histogram with logarithmic buckets."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.largest_ms = 0.0

    def add(self, latency_ms: float) -> None:
        """Count one; anything below 0.01 ms counts as 0.01 ms."""
        bucket = math.ceil(math.log(max(latency_ms, SMALLEST_MS) / SMALLEST_MS) / _LOG_GROWTH)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.largest_ms = max(self.largest_ms, latency_ms)

    def percentile_ms(self, percent: float) -> float | None:
        """The time that `percent` (0 to 100) of all stayed at or below; None when there was none."""
        if self.count == 0:
            return None
        wanted = max(1, math.ceil(self.count * percent / 100))
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return min(SMALLEST_MS * GROWTH**bucket, max(self.largest_ms, SMALLEST_MS))
        return self.largest_ms
