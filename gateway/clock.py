"""The port of time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time for what is stored, monotonic time for what is measured; never one for the other."""

    def time_ms(self) -> int:
        """Wall clock, ms since the Unix epoch; may jump."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
