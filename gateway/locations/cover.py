"""Rectangles that hold a shape, close enough for an index to narrow by."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.locations.geo import Box, Polygons, Shape, enclose
from gateway.locations.polygons import Ring

# The bounding box of a slanting road is many times the road; cut into this number of bands it is hardly more.
BANDS = 32
MAX_BOXES = 256
WORLD_DEG = 360.0


def cover(shape: Shape) -> tuple[Box, ...]:
    """At most about 256 rectangles that hold every point of the shape; none crosses the antimeridian."""
    if not isinstance(shape, Polygons):
        return shape.boxes()
    # The meridian ±180 and the poles belong to whatever touches them.
    touching = [box for box in shape.boxes() if box.west == box.east or box.south == box.north]
    # Of a box that is as wide as the world both sides are that meridian; a band may reach only one of them.
    whole = [box for box in shape.boxes() if box.east - box.west == WORLD_DEG]
    touching += [Box(side, box.south, side, box.north) for box in whole for side in (box.west, box.east)]
    bands = max(1, min(BANDS, MAX_BOXES // len(shape.polygons)))
    found = [box for rings in shape.polygons for box in _banded(rings[0], bands)]
    return enclose([*found, *touching], MAX_BOXES)


def _banded(ring: Ring, bands: int) -> Iterator[Box]:
    """A ring cut into bands of latitude, each as wide as the ring is there."""
    south, north = min(lat for _, lat in ring), max(lat for _, lat in ring)
    height = (north - south) / bands
    if not height:
        lons = [lon for lon, _ in ring]
        yield Box(min(lons), south, max(lons), north)
        return
    for number in range(bands):
        low = south + number * height
        high = north if number == bands - 1 else low + height
        lons = list(_between(ring, low, high))
        if lons:
            yield Box(min(lons), low, max(lons), high)


def _between(ring: Ring, low: float, high: float) -> Iterator[float]:
    """The longitudes that the ring reaches between two latitudes: at its ends there, and where it crosses them."""
    lon1, lat1 = ring[-1]
    for lon2, lat2 in ring:
        if min(lat1, lat2) <= high and max(lat1, lat2) >= low:
            for lat in (max(low, min(lat1, lat2)), min(high, max(lat1, lat2))):
                # Rounding: never outside of the edge.
                share = min(1.0, max(0.0, (lat - lat1) / (lat2 - lat1))) if lat1 != lat2 else 0.0
                yield lon1 + share * (lon2 - lon1)
            if low <= lat1 <= high:
                yield lon1
            if low <= lat2 <= high:
                yield lon2
        lon1, lat1 = lon2, lat2
