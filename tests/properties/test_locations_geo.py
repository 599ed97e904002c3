"""Shapes against brute force: vectors in space for circles, winding numbers for polygons, plain cells for covers."""

from itertools import pairwise
from math import acos, asin, atan2, cos, degrees, pi, radians, sin

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.locations.cells import CELL_BITS, cell, cover
from gateway.locations.geo import EARTH_RADIUS_M, BoundingBox, Box, Circle, Polygons, distance_m, enclose
from gateway.locations.query import parse_bbox, parse_circle

SPECIAL_LAT = (-90.0, 90.0, 0.0, 89.999999, -89.999999)
SPECIAL_LON = (-180.0, 180.0, 0.0, 179.999999, -179.999999)
lats = st.one_of(st.sampled_from(SPECIAL_LAT), st.floats(-90, 90))
lons = st.one_of(st.sampled_from(SPECIAL_LON), st.floats(-180, 180))
radii = st.one_of(st.floats(0, 1000), st.floats(0, 1e6), st.floats(0, pi * EARTH_RADIUS_M))


def vector(lat: float, lon: float) -> tuple[float, float, float]:
    phi, theta = radians(lat), radians(lon)
    return cos(phi) * cos(theta), cos(phi) * sin(theta), sin(phi)


@given(lats, lons, lats, lons)
def test_distance_is_the_angle_between_vectors(lat1: float, lon1: float, lat2: float, lon2: float) -> None:
    dot = sum(a * b for a, b in zip(vector(lat1, lon1), vector(lat2, lon2), strict=True))
    angle = acos(max(-1.0, min(1.0, dot)))
    # acos loses half of its digits near 0 and pi: 1e-7 rad is 0.6 m.
    assert distance_m(lat1, lon1, lat2, lon2) == pytest.approx(angle * EARTH_RADIUS_M, abs=1.0)


@given(lats, lons, radii, lats, lons)
def test_boxes_and_cells_of_a_circle_miss_no_point(
    lat: float, lon: float, radius: float, point_lat: float, point_lon: float
) -> None:
    check_enclosed(Circle(lat, lon, radius), point_lat, point_lon)


@given(lats, lons, st.floats(0, 2e6), st.floats(0, 2 * pi))
@example(89.0, 0.0, 111_000.0, pi / 2)
def test_the_rim_of_a_circle_is_enclosed(lat: float, lon: float, radius: float, bearing: float) -> None:
    angle, phi = radius / EARTH_RADIUS_M * (1 - 1e-9), radians(lat)
    lat2 = asin(max(-1.0, min(1.0, sin(phi) * cos(angle) + cos(phi) * sin(angle) * cos(bearing))))
    lon2 = degrees(atan2(sin(bearing) * sin(angle) * cos(phi), cos(angle) - sin(phi) * sin(lat2))) + lon
    check_enclosed(Circle(lat, lon, radius), degrees(lat2), (lon2 + 180) % 360 - 180)


@given(lons, lats, lons, lats, lats, lons)
def test_a_bounding_box_is_what_it_says(
    west: float, south: float, east: float, north: float, lat: float, lon: float
) -> None:
    assume(south <= north)
    box = BoundingBox(west, south, east, north)
    # Brute force: go east from `west` by whole turns of the globe.
    same_meridian = {lon, -lon} if abs(lon) == 180.0 else {lon}
    width = east - west if west <= east else east + 360.0 - west
    turns = {turned - west for one in same_meridian for turned in (one, one + 360.0)}
    # The difference of two floats is rounded, so the rim itself is left to the examples of the unit tests.
    assume(all(abs(turn) > 1e-9 and abs(turn - width) > 1e-9 for turn in turns))
    expected = south <= lat <= north and (abs(lat) == 90.0 or any(0 <= turn <= width for turn in turns))
    assert box.contains(lat, lon) is expected
    check_enclosed(box, lat, lon)


def check_enclosed(shape: BoundingBox | Circle | Polygons, lat: float, lon: float) -> None:
    if shape.contains(lat, lon):
        boxes = shape.boxes()
        assert all(box.west <= box.east and box.south <= box.north for box in boxes)
        assert any(box.holds(lat, lon) for box in boxes)
        assert enclose(boxes, 1)[0].holds(lat, lon)
        assert any(low <= cell(lat, lon) <= high for low, high in cover(boxes))


small = st.integers(-20, 20).map(float)
rings = st.lists(st.tuples(small, small), min_size=3, max_size=8).map(lambda ring: (*ring, ring[0]))


@given(st.lists(rings, min_size=1, max_size=3), small, small)
def test_polygons_follow_the_even_odd_rule(
    outlines: list[tuple[tuple[float, float], ...]], lat: float, lon: float
) -> None:
    # Off the grid that the corners lie on, no point is on an edge.
    lat, lon = lat + 0.3819660113, lon + 0.7320508076
    shape = Polygons((tuple(outlines),))
    outer, *holes = (turns(ring, lat, lon) % 2 == 1 for ring in outlines)
    assert shape.contains(lat, lon) is (outer and not any(holes))
    check_enclosed(shape, lat, lon)


def turns(ring: tuple[tuple[float, float], ...], lat: float, lon: float) -> int:
    """How often a ring winds around a point, by summing angles; odd exactly where a ray crosses it an odd time."""
    total = 0.0
    for (lon1, lat1), (lon2, lat2) in pairwise(ring):
        delta = atan2(lat2 - lat, lon2 - lon) - atan2(lat1 - lat, lon1 - lon)
        total += (delta + pi) % (2 * pi) - pi
    return round(total / (2 * pi))


@given(lats, lons)
def test_cells_fit_their_bits(lat: float, lon: float) -> None:
    assert 0 <= cell(lat, lon) < 1 << CELL_BITS


@given(lons, lats, st.floats(0, 5), st.floats(0, 5), st.integers(1, 64))
def test_covers_are_sorted_disjoint_and_few(west: float, south: float, wide: float, high: float, most: int) -> None:
    shape = BoundingBox(west, south, min(west + wide, 180.0), min(south + high, 90.0))
    ranges = cover(shape.boxes(), most)
    assert all(low <= high for low, high in ranges)
    assert all(end + 1 < start for (_, end), (start, _) in pairwise(ranges))
    assert len(ranges) <= max(4 * most, 16 * len(shape.boxes()))


@given(st.lists(st.tuples(lons, lats, lons, lats), min_size=1, max_size=8))
def test_covers_of_many_boxes_stay_small_enough_for_one_statement(corners: list[tuple[float, ...]]) -> None:
    boxes = [Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)) for x1, y1, x2, y2 in corners]
    assert len(cover(boxes)) <= 128


@given(st.floats(-89, 89), st.floats(-179, 179), st.floats(1e-4, 1))
def test_covers_are_tight(lat: float, lon: float, size: float) -> None:
    box = BoundingBox(lon, lat, min(lon + size, 180), min(lat + size, 90))
    covered = sum(high - low + 1 for low, high in cover(box.boxes()))
    exact = (size / 360 * 2**23 + 2) * (size / 180 * 2**23 + 2)
    assert covered <= 6 * exact


@given(lons, lats, lons, lats)
def test_numbers_in_parameters_are_read_exactly(west: float, south: float, east: float, north: float) -> None:
    assume(south <= north)
    assert parse_bbox(f"{west!r},{south!r},{east!r},{north!r}") == BoundingBox(west, south, east, north)
    assert parse_circle(f"{south!r},{west!r}", "12.5") == Circle(south, west, 12.5)
