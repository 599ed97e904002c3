"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """The Clock port on the operating system."""

    def time_ms(self) -> int:
        """Wall clock, ms since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """CLOCK_MONOTONIC."""
        return time.monotonic()
