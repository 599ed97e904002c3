"""Counts over time as one line of text."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = " ▁▂▃▄▅▆▇█"


def curve(counts: Sequence[int], width: int) -> str:
    """Counts over time as one line of blocks, at most `width` of them."""
    step = max(1, -(-len(counts) // max(1, width)))
    counts = list(counts)
    sums = [sum(counts[begin : begin + step]) for begin in range(0, len(counts), step)]
    top = max(sums, default=0) or 1
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // top)] for count in sums)
