"""What the part needs from outside: where a recording goes."""

from __future__ import annotations

from typing import Protocol

from gateway.recording.format import Line


class Recording(Protocol):
    """Where arrivals are written, for a load test to play them again (gateway/recording)."""

    def put(self, line: Line) -> None:
        """Take one line, not earlier than the last. Never waits and never fails; without room for it it is dropped."""

    def now_ms(self) -> int:
        """Whole ms since the recording began."""
