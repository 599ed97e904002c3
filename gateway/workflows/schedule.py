"""Which times of a schedule become runs, and what such a run is called. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

# An older one was missed: no manager was there at its time.
GRACE_MS = 60_000
# Of one schedule at once; the others follow.
MAX_TIMES = 100


def chosen(times: Sequence[datetime], now_ms: int, missed: str) -> list[datetime]:
    """Those of the times behind us that get a run; `missed` is the rule of the definition."""
    if missed == "all":
        return list(times)
    if missed == "latest":
        return list(times[-1:])
    return [time for time in times if now_ms - ms_of(time) <= GRACE_MS]


def ms_of(time: datetime) -> int:
    """Ms since the Unix epoch."""
    return round(time.timestamp() * 1000)


def run_key(name: str, time: datetime) -> str:
    """The idempotency key of its run: definition, wall time, and which of two equal wall times (PEP 495)."""
    return f"schedule:{name}:{time.replace(tzinfo=None, fold=0).isoformat(timespec='minutes')}:{time.fold}"
