"""A clock that only tests move."""

from __future__ import annotations

START_MS = 1_750_000_000_000


class FakeClock:
    """Wall time and monotonic time, moved together."""

    def __init__(self, monotonic_s: float = 1000.0, time_ms: int = START_MS) -> None:
        self._monotonic_s = monotonic_s
        self._time_ms = time_ms

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def time_ms(self) -> int:
        return self._time_ms

    def advance(self, seconds: float) -> None:
        self._monotonic_s += seconds
        self._time_ms += round(seconds * 1000)
