"""When a device reaches each point of a recorded track."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.device.gpx import Fix

# GPS time begins on 1980-01-06: a recorder that claims an earlier one had not found the time yet.
FIRST_USABLE_MS = 315_964_800_000
SPACING_MS = 1000
# A recorder that was switched off over night does not make the device stand still for as long.
MAX_PAUSE_MS = 60_000


class Leg(NamedTuple):
    """A point to report `pause_ms` after the one before; `recorded_ms` is the recorder's own time, as it was written.

    `recorded_ms` None: the file has no time from which this point's could be told.
    """

    pause_ms: int
    lat: float
    lon: float
    altitude_m: float | None
    recorded_ms: int | None


def legs(fixes: Sequence[Fix]) -> list[Leg]:
    """Order and pauses as recorded; 1 s where either time is missing, before 1980, or goes back.

    Two points with the same time follow each other without a pause.
    """
    result: list[Leg] = []
    recorded = _filled([fix.time_ms for fix in fixes])
    for index, (fix, time_ms) in enumerate(zip(fixes, recorded, strict=True)):
        pause_ms = 0 if index == 0 else _pause_ms(fixes[index - 1].time_ms, fix.time_ms)
        result.append(Leg(pause_ms, fix.lat, fix.lon, fix.altitude_m, time_ms))
    return result


def _pause_ms(before_ms: int | None, after_ms: int | None) -> int:
    if before_ms is None or after_ms is None or min(before_ms, after_ms) < FIRST_USABLE_MS or after_ms < before_ms:
        return SPACING_MS
    return min(after_ms - before_ms, MAX_PAUSE_MS)


def _filled(times_ms: Sequence[int | None]) -> list[int | None]:
    """Give a point without a time the one before it plus a second; those at the start count back from the first."""
    filled: list[int | None] = list(times_ms)
    first = next((index for index, time_ms in enumerate(filled) if time_ms is not None), None)
    if first is None:
        return filled
    for index in range(first - 1, -1, -1):
        later_ms = filled[index + 1]
        filled[index] = None if later_ms is None else later_ms - SPACING_MS
    for index in range(first + 1, len(filled)):
        earlier_ms = filled[index - 1]
        if filled[index] is None and earlier_ms is not None:
            filled[index] = earlier_ms + SPACING_MS
    return filled
