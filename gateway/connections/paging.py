"""The next page of many names, without holding up the event loop."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence

# About a millisecond of comparisons.
_SLICE = 4096


async def next_names(names: Sequence[str], after: str | None, count: int) -> list[str]:
    """The `count` smallest names behind `after` (None: of all), sorted. Others have their turn in between."""
    found: list[str] = []
    for begin in range(0, len(names), _SLICE):
        if begin:
            await asyncio.sleep(0)
        part = (name for name in names[begin : begin + _SLICE] if after is None or name > after)
        found = heapq.nsmallest(count, [*found, *part])
    return found
