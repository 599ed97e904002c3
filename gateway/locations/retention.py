"""Which days of events are kept: the cut-off, a day before which whole days may be dropped.

Dropping cannot be undone, and one reading of the wall clock can be wrong. So the cut-off follows the wall clock slowly:

1. It moves towards (wall day − retention days) by at most one day in an hour of uptime.
2. It moves only after an hour in which the wall clock and the monotonic clock agreed.
3. It does not move while the wall clock is more than a day ahead of what devices' events say.
4. It moves at once, in both directions, where no stored day is affected: between what the wall clock says and what the
   stored days need. So a wall clock that is years behind does not take it along, and it recovers from one that did.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct
from msgspec.structs import replace

from gateway.locations.event import DAY_MS

STEP_S = 3600.0
# In an hour, a clock that is corrected by NTP gains or loses at most 1.8 s (500 ppm); suspended machines lose more.
AGREEMENT_MS = 60_000
AHEAD_MS = DAY_MS


class Cutoff(Struct, frozen=True):
    """`day` (days since the Unix epoch, UTC) is the first one that is kept.

    `agreed_s`: for how long the clocks have agreed, at most `STEP_S`. `apart_ms`: wall minus monotonic clock when that
    began. `looked_s`: the monotonic clock at the last look. None: there was none since the start of the process.
    """

    day: int
    agreed_s: float = 0.0
    apart_ms: float = 0.0
    looked_s: float | None = None


def first_cutoff(stored: int | None, days: Collection[int], now_ms: int, retention_days: int) -> int:
    """Where to begin: at what was stored, else so that nothing is dropped. `days`: those that have files."""
    target = now_ms // DAY_MS - retention_days
    return min((*days, target)) if stored is None else _settled(stored, target, days, retention_days)


def look(
    cutoff: Cutoff, now_ms: int, now_s: float, retention_days: int, events_ms: int | None, days: Collection[int]
) -> Cutoff:
    """The cut-off after a look at both clocks.

    `events_ms`: how far events are from the wall clock (negative: it is ahead of them); None: not known. `days`: those
    that have files.
    """
    target = now_ms // DAY_MS - retention_days
    apart_ms = now_ms - now_s * 1000
    agreed_s = cutoff.agreed_s
    if cutoff.looked_s is None or abs(apart_ms - cutoff.apart_ms) > AGREEMENT_MS:
        cutoff = replace(cutoff, apart_ms=apart_ms)
        agreed_s = 0.0
    elif events_ms is not None and events_ms < -AHEAD_MS:
        agreed_s = 0.0
    else:
        agreed_s = min(agreed_s + now_s - cutoff.looked_s, STEP_S)
    day = _settled(cutoff.day, target, days, retention_days)
    if day < target and agreed_s >= STEP_S:
        return Cutoff(day + 1, 0.0, apart_ms, now_s)
    return Cutoff(day, agreed_s, cutoff.apart_ms, now_s)


def _settled(day: int, target: int, days: Collection[int], retention_days: int) -> int:
    """The cut-off as near to `target` as one reading may bring it: the median of it, `target` and what `days` need.

    They need that the oldest of them stays, and every day that may still come while the newest is today.
    """
    if not days:
        return day
    need = min(min(days), max(days) - retention_days)
    return sorted((day, target, need))[1]
