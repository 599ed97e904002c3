"""Points in polygons: edges are kept by latitude, so that a point meets a handful of them and not all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

Ring = Sequence[tuple[float, float]]
"""Positions in GeoJSON's order, (longitude, latitude), the last equal to the first."""

# An edge: number of its ring, both ends. Half-open in latitude, so that no vertex is crossed twice.
_Edge = tuple[int, float, float, float, float]
MAX_BANDS = 1024
# Edges that span many bands are kept in each of them: fewer bands where edges are long.
_COPIES = 3


class PreparedPolygons:
    """Polygons of rings, the outer one first, made ready for many points."""

    def __init__(self, polygons: Sequence[Sequence[Ring]]) -> None:
        self._outer: list[bool] = []
        self._polygon: list[int] = []
        edges: list[_Edge] = []
        for number, rings in enumerate(polygons):
            for place, ring in enumerate(rings):
                edges += _edges(len(self._outer), ring)
                self._outer.append(place == 0)
                self._polygon.append(number)
        self._south = min((min(edge[2], edge[4]) for edge in edges), default=inf)
        self._north = max((max(edge[2], edge[4]) for edge in edges), default=-inf)
        self._bands = self._banded(edges)
        outer = [rings[0] for rings in polygons]
        self._poles = {lat for ring in outer for _, lat in ring if abs(lat) == 90.0}
        self._meridian = _merged(span for ring in outer for span in _on_meridian(ring))

    def steps(self, lat: float) -> int:
        """How many edges a point of this latitude is compared with."""
        return len(self._band(lat)) + len(self._meridian)

    def contains(self, lat: float, lon: float) -> bool:
        """Inside of an outer ring and of none of its holes, each by the even-odd rule.

        A point at ±180° or at a pole is in every polygon that touches it, whatever longitude it was given.
        """
        if abs(lat) == 90.0:
            return lat in self._poles
        if abs(lon) == 180.0:
            return any(low <= lat <= high for low, high in self._meridian)
        inside: set[int] = set()
        for ring, lon1, lat1, lon2, lat2 in self._band(lat):
            # A ray to the east crosses the edge.
            if (lat1 > lat) != (lat2 > lat) and lon < (lon2 - lon1) * (lat - lat1) / (lat2 - lat1) + lon1:
                inside ^= {ring}
        if not inside:
            return False
        holes = {self._polygon[ring] for ring in inside if not self._outer[ring]}
        return any(self._outer[ring] and self._polygon[ring] not in holes for ring in inside)

    def _banded(self, edges: list[_Edge]) -> list[list[_Edge]]:
        if not edges:
            return []
        long = sum(abs(edge[2] - edge[4]) for edge in edges) / (self._north - self._south)
        number = int(min(MAX_BANDS, len(edges), 1 + _COPIES * len(edges) / long))
        bands: list[list[_Edge]] = [[] for _ in range(number)]
        for edge in edges:
            low, high = sorted((self._place(edge[2], len(bands)), self._place(edge[4], len(bands))))
            for band in range(low, high + 1):
                bands[band].append(edge)
        return bands

    def _band(self, lat: float) -> list[_Edge]:
        if not self._south <= lat <= self._north:
            return []
        return self._bands[self._place(lat, len(self._bands))]

    def _place(self, lat: float, bands: int) -> int:
        # Divided first: bands a degree would be infinite for a polygon of hardly any height.
        return min(int((lat - self._south) / (self._north - self._south) * bands), bands - 1)


def _edges(number: int, ring: Ring) -> Iterator[_Edge]:
    lon1, lat1 = ring[-1]
    for lon2, lat2 in ring:
        if lat1 != lat2:
            yield number, lon1, lat1, lon2, lat2
        lon1, lat1 = lon2, lat2


def _on_meridian(ring: Ring) -> Iterator[tuple[float, float]]:
    """The latitudes, from and to, at which a ring lies on ±180°."""
    lon1, lat1 = ring[-1]
    for lon2, lat2 in ring:
        if abs(lon2) == 180.0:
            yield (min(lat1, lat2), max(lat1, lat2)) if lon1 == lon2 else (lat2, lat2)
        lon1, lat1 = lon2, lat2


def _merged(spans: Iterator[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged
