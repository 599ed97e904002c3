"""Shapes on the sphere: which points they hold, and boxes in degrees that enclose them.

Every shape answers `contains(lat, lon)` exactly and `boxes()`: rectangles that together hold all of its points, none
of them crossing the antimeridian, so that an index can narrow by plain comparisons before the exact check.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import asin, copysign, cos, degrees, pi, radians, sin, sqrt
from typing import NamedTuple

from msgspec import Struct

from gateway.locations.polygons import PreparedPolygons, Ring

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the WGS 84 ellipsoid, (2a + b) / 3 (IUGG)."""

# Enclosing boxes are widened by this much, about 0.1 mm, so that rounding never excludes a point of the shape.
MARGIN_DEG = 1e-9


class Box(NamedTuple):
    """A rectangle in degrees with west <= east and south <= north, edges included."""

    west: float
    south: float
    east: float
    north: float

    def holds(self, lat: float, lon: float) -> bool:
        """Whether the point lies in the rectangle, taken literally in degrees."""
        return self.west <= lon <= self.east and self.south <= lat <= self.north


def enclose(boxes: Sequence[Box], maximum: int) -> tuple[Box, ...]:
    """The boxes themselves, or the one that holds them all when there are more than `maximum`."""
    if len(boxes) <= maximum:
        return tuple(boxes)
    west, south = min(box.west for box in boxes), min(box.south for box in boxes)
    east, north = max(box.east for box in boxes), max(box.north for box in boxes)
    return (Box(west, south, east, north),)


def distance_m(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance by the haversine formula, which stays exact for small distances."""
    apart = lon2 - lon1
    if abs(apart) > 180.0:
        apart -= copysign(360.0, apart)  # -180 and 180 are one
    half_lat = sin(radians(lat2 - lat1) / 2)
    half_lon = sin(radians(apart) / 2)
    h = half_lat * half_lat + _cos_lat(lat1) * _cos_lat(lat2) * half_lon * half_lon
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(h)))


def _cos_lat(lat: float) -> float:
    """Exactly 0 at a pole, where every longitude is the same point."""
    return cos(radians(lat)) if abs(lat) != 90.0 else 0.0


class BoundingBox(Struct, frozen=True):
    """GeoJSON's `west,south,east,north`, edges included; west > east crosses the antimeridian.

    The meridians -180 and 180 are one, and a pole on the edge belongs to the box whatever longitude a device gave it.
    """

    west: float
    south: float
    east: float
    north: float

    def boxes(self) -> tuple[Box, ...]:
        """One to five rectangles: the box, cut at the antimeridian, and slivers for the meridian and the poles."""
        south, north = self.south, self.north
        if self.west <= self.east:
            found = [Box(self.west, south, self.east, north)]
        else:
            found = [Box(self.west, south, 180.0, north), Box(-180.0, south, self.east, north)]
        if self.west <= self.east and not (self.west == -180.0 and self.east == 180.0):
            if self.east == 180.0:
                found.append(Box(-180.0, south, -180.0, north))
            if self.west == -180.0:
                found.append(Box(180.0, south, 180.0, north))
        found.extend(Box(-180.0, pole, 180.0, pole) for pole in (-90.0, 90.0) if south <= pole <= north)
        return tuple(found)

    def steps(self, lat: float) -> int:
        """What `contains` costs."""
        return 1

    def contains(self, lat: float, lon: float) -> bool:
        """Exact: comparisons only."""
        if not self.south <= lat <= self.north:
            return False
        if abs(lat) == 90.0:
            return True
        if self.west <= self.east:
            return self.west <= lon <= self.east or (abs(lon) == 180.0 and self.west <= -lon <= self.east)
        return lon >= self.west or lon <= self.east


class Circle(Struct, frozen=True):
    """Everything within `radius_m` (inclusive) of a point, along the sphere."""

    lat: float
    lon: float
    radius_m: float

    def boxes(self) -> tuple[Box, ...]:
        """One rectangle, two where the circle crosses the antimeridian; all longitudes where it holds a pole."""
        angle = min(self.radius_m / EARTH_RADIUS_M, pi)
        reach = degrees(angle) + MARGIN_DEG
        south, north = self.lat - reach, self.lat + reach
        if south <= -90.0 or north >= 90.0:
            return (Box(-180.0, max(south, -90.0), 180.0, min(north, 90.0)),)
        # The meridian that touches the circle: sin(Δλ) = sin(r) / cos(φ). Near a pole it is steep: a wider margin.
        ratio = sin(angle) / cos(radians(self.lat))
        wide = degrees(asin(min(1.0, ratio))) + MARGIN_DEG + (1.0 if ratio > 0.999 else 0.0)
        west, east = self.lon - wide, self.lon + wide
        if wide >= 180.0:
            return (Box(-180.0, south, 180.0, north),)
        # At exactly ±180 there is still the same meridian seen from the other side.
        if west <= -180.0:
            return (Box(-180.0, south, east, north), Box(west + 360.0, south, 180.0, north))
        if east >= 180.0:
            return (Box(west, south, 180.0, north), Box(-180.0, south, east - 360.0, north))
        return (Box(west, south, east, north),)

    def steps(self, lat: float) -> int:
        """What `contains` costs."""
        return 1

    def contains(self, lat: float, lon: float) -> bool:
        """Exact to the rounding of the haversine formula."""
        return distance_m(self.lat, self.lon, lat, lon) <= self.radius_m


class Polygons(Struct, frozen=True, dict=True):
    """GeoJSON Polygon or MultiPolygon: for each polygon the outer ring, then its holes; edges straight in degrees.

    Coordinates are taken literally: a ring does not cross the antimeridian; a shape that does is to be cut there into a
    MultiPolygon, as RFC 7946 (section 3.1.9) asks. A point exactly on an edge counts as inside on south and west
    edges only (half-open), so that polygons which share an edge share no point; but the meridians -180 and 180 are one,
    and so is a pole: whatever touches them holds them.
    """

    polygons: tuple[tuple[Ring, ...], ...]

    def boxes(self) -> tuple[Box, ...]:
        """The rectangles of each polygon's outer ring, as those of a bounding box."""
        found: list[Box] = []
        for rings in self.polygons:
            lons, lats = [lon for lon, _ in rings[0]], [lat for _, lat in rings[0]]
            found += BoundingBox(min(lons), min(lats), max(lons), max(lats)).boxes()
        return tuple(found)

    def contains(self, lat: float, lon: float) -> bool:
        """Inside of an outer ring and of none of its holes, each by the even-odd rule."""
        return self._prepared.contains(lat, lon)

    def steps(self, lat: float) -> int:
        """What `contains` costs at this latitude: edges to compare with."""
        return self._prepared.steps(lat)

    @cached_property
    def _prepared(self) -> PreparedPolygons:
        return PreparedPolygons(self.polygons)


Shape = BoundingBox | Circle | Polygons
