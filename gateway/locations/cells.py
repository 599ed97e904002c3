"""Positions as integers in Morton order (interleaved bits), so that a box becomes a few ranges of one index.

A cell is 2 × 23 bits, about 4.8 m × 2.4 m at the equator: fine enough that the ranges of a small box hold little
besides the box, and two cells of one device's message are neighbours in the index.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.locations.geo import Box

AXIS_BITS = 23
CELL_BITS = 2 * AXIS_BITS

_SIDE = 1 << AXIS_BITS
_LON_SCALE = _SIDE / 360.0
_LAT_SCALE = _SIDE / 180.0
_LAST = _SIDE - 1
_LOW_BITS = 12


def _spread(value: int) -> int:
    """The bits of `value` with a zero after each."""
    spread = 0
    for bit in range(_LOW_BITS):
        spread |= (value >> bit & 1) << 2 * bit
    return spread


_SPREAD = [_spread(value) for value in range(1 << _LOW_BITS)]


def cell(lat: float, lon: float) -> int:
    """The cell of a position, 0 <= cell < 2**46. Monotonous in each coordinate, which `cover` relies on."""
    x = int((lon + 180.0) * _LON_SCALE)
    y = int((lat + 90.0) * _LAT_SCALE)
    if x > _LAST:
        x = _LAST
    if y > _LAST:
        y = _LAST
    spread = _SPREAD
    return (spread[x >> 12] << 24 | spread[x & 4095]) << 1 | spread[y >> 12] << 24 | spread[y & 4095]


def cover(boxes: Sequence[Box], max_ranges: int = 24) -> list[tuple[int, int]]:
    """Ranges of cells, both ends included, sorted and disjoint, that together hold every point of `boxes`.

    There are at most four times `max_ranges`, or sixteen a box if that is more.
    Quadrants are split level by level from the whole world down until a box has its share of ranges.
    """
    ranges: list[tuple[int, int]] = []
    share = max(4, max_ranges // max(1, len(boxes)))
    for box in boxes:
        ranges.extend(_cover_box(box, share))
    ranges.sort()
    merged: list[tuple[int, int]] = []
    for low, high in ranges:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _axis(value: float, offset: float, scale: float) -> int:
    return min(max(int((value + offset) * scale), 0), _LAST)


def _cover_box(box: Box, max_ranges: int) -> list[tuple[int, int]]:
    x1, x2 = _axis(box.west, 180.0, _LON_SCALE), _axis(box.east, 180.0, _LON_SCALE)
    y1, y2 = _axis(box.south, 90.0, _LAT_SCALE), _axis(box.north, 90.0, _LAT_SCALE)
    done: list[tuple[int, int]] = []
    level = [(0, 0, 0)]  # quadrants as (x, y, Morton prefix), all of the same size
    bits = AXIS_BITS
    while level:
        partly: list[tuple[int, int, int]] = []
        for x, y, prefix in level:
            left, right = x << bits, ((x + 1) << bits) - 1
            bottom, top = y << bits, ((y + 1) << bits) - 1
            if right < x1 or left > x2 or top < y1 or bottom > y2:
                continue
            if left >= x1 and right <= x2 and bottom >= y1 and top <= y2:
                done.append((prefix << 2 * bits, ((prefix + 1) << 2 * bits) - 1))
            else:
                partly.append((x, y, prefix))
        if len(done) + len(partly) > max_ranges or bits == 0:
            # Another level would at best keep the count; what is partly covered is taken whole.
            done.extend((prefix << 2 * bits, ((prefix + 1) << 2 * bits) - 1) for _, _, prefix in partly)
            return done
        bits -= 1
        level = [
            (2 * x + i, 2 * y + j, prefix << 2 | i << 1 | j) for x, y, prefix in partly for i in (0, 1) for j in (0, 1)
        ]
    return done
