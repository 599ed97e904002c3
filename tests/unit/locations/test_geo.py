from math import cos, pi, sin

import pytest

from gateway.locations.geo import EARTH_RADIUS_M, BoundingBox, Box, Circle, Polygons, distance_m, enclose


def test_distances() -> None:
    assert distance_m(0, 0, 0, 90) == pytest.approx(EARTH_RADIUS_M * pi / 2)
    assert distance_m(90, 0, -90, 123) == pytest.approx(EARTH_RADIUS_M * pi)
    assert distance_m(10, 179.9, 10, -179.9) == pytest.approx(distance_m(10, 0, 10, 0.2))
    assert distance_m(35.6895, 139.6917, 35.6895, 139.6917) == 0


@pytest.mark.parametrize(
    ("box", "lat", "lon", "inside"),
    [
        (BoundingBox(10, 20, 30, 40), 20, 10, True),
        (BoundingBox(10, 20, 30, 40), 40, 30, True),
        (BoundingBox(10, 20, 30, 40), 19.999, 10, False),
        (BoundingBox(170, -10, -170, 10), 0, 180, True),
        (BoundingBox(170, -10, -170, 10), 0, -175, True),
        (BoundingBox(170, -10, -170, 10), 0, 0, False),
        (BoundingBox(170, -10, 180, 10), 0, -180, True),
        (BoundingBox(-180, -10, -170, 10), 0, 180, True),
        (BoundingBox(-10, 80, 10, 90), 90, 170, True),
        (BoundingBox(-10, -90, 10, -80), -90, -170, True),
        (BoundingBox(-10, 80, 10, 89.9), 90, 0, False),
        (BoundingBox(-180, -90, 180, 90), 0, 0, True),
        (BoundingBox(180, -10, -180, 10), 0, 180, True),
        (BoundingBox(180, -10, -180, 10), 0, 0, False),
    ],
)
def test_bounding_boxes(box: BoundingBox, lat: float, lon: float, inside: bool) -> None:
    assert box.contains(lat, lon) is inside
    if inside:
        assert any(part.holds(lat, lon) for part in box.boxes())


@pytest.mark.parametrize(
    ("circle", "lat", "lon"),
    [
        (Circle(0, 179.99, 5000), 0, -179.98),
        (Circle(0, -179.99, 5000), 0, 179.98),
        (Circle(89.99, 0, 5000), 89.99, 180),
        (Circle(-89.99, 0, 5000), -89.99, 180),
        (Circle(0, 0, pi * EARTH_RADIUS_M), 0, 180),
        (Circle(10, 20, 0), 10, 20),
        (Circle(0, 180, 10), 0, -180),
        (Circle(0, 180, 0), 0, -180),
        (Circle(35, -180, 0), 35, 180),
        (Circle(-90, 55, 0), -90, 55),
        (Circle(-90, 55, 0), -90, -120),
        (Circle(90, 0, 0), 90, 180),
    ],
)
def test_circles_across_the_antimeridian_and_the_poles(circle: Circle, lat: float, lon: float) -> None:
    assert circle.contains(lat, lon)
    assert any(box.holds(lat, lon) for box in circle.boxes())


SQUARE = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0), (0.0, 0.0))
HOLE = ((4.0, 4.0), (6.0, 4.0), (6.0, 6.0), (4.0, 6.0), (4.0, 4.0))
EAST = tuple((lon + 10, lat) for lon, lat in SQUARE)


def test_a_hole_excludes() -> None:
    shape = Polygons(((SQUARE, HOLE),))
    assert shape.contains(1, 1)
    assert not shape.contains(5, 5)
    assert not shape.contains(11, 5)


def test_polygons_that_share_an_edge_share_no_point() -> None:
    left, right = Polygons(((SQUARE,),)), Polygons(((EAST,),))
    assert left.contains(5, 10) + right.contains(5, 10) == 1
    assert Polygons(((SQUARE,), (EAST,))).contains(5, 10)


def test_many_boxes_become_the_one_around_them() -> None:
    boxes = [Box(0, 0, 1, 1), Box(5, -3, 6, 2)]
    assert enclose(boxes, 2) == tuple(boxes)
    assert enclose(boxes, 1) == (Box(0, -3, 6, 2),)


def rectangle(west: float, south: float, east: float, north: float) -> Polygons:
    ring = ((west, south), (east, south), (east, north), (west, north), (west, south))
    return Polygons(((ring,),))


TRIANGLE = Polygons(((((170.0, 0.0), (180.0, 5.0), (170.0, 10.0), (170.0, 0.0)),),))


@pytest.mark.parametrize(
    ("shape", "lat", "lon", "inside"),
    [
        (rectangle(170, -10, 180, 10), 0, 180, True),
        (rectangle(170, -10, 180, 10), 0, -180, True),
        (rectangle(170, -10, 180, 10), 10, 180, True),
        (rectangle(170, -10, 180, 10), 10.1, 180, False),
        (rectangle(-180, -10, -170, 10), 0, 180, True),
        (rectangle(-180, -10, -170, 10), 0, -180, True),
        (rectangle(170, -10, 179, 10), 0, 180, False),
        (TRIANGLE, 5, -180, True),
        (TRIANGLE, 6, 180, False),
        (rectangle(0, 80, 10, 90), 90, 5, True),
        (rectangle(0, 80, 10, 90), 90, -120, True),
        (rectangle(0, 80, 10, 89), 90, 5, False),
        (rectangle(0, -90, 10, -80), -90, 180, True),
        (rectangle(0, -90, 10, -80), 90, 5, False),
        (rectangle(-180, -90, 180, 90), 90, 0, True),
        (rectangle(-180, -90, 180, 90), 0, 180, True),
    ],
)
def test_polygons_hold_what_they_touch_of_the_antimeridian_and_the_poles(
    shape: Polygons, lat: float, lon: float, inside: bool
) -> None:
    assert shape.contains(lat, lon) is inside
    if inside:
        assert any(box.holds(lat, lon) for box in shape.boxes())


def test_a_point_meets_few_edges_of_many() -> None:
    circle = [(179 * cos(2 * pi * n / 5000), 89 * sin(2 * pi * n / 5000)) for n in range(5000)]
    shape = Polygons((((*circle, circle[0]),),))
    assert shape.contains(0.1, 0.1)
    assert max(shape.steps(lat) for lat in range(-80, 81)) < 50
    zigzag = [(float(n % 170), 89.0 if n % 2 else -89.0) for n in range(5000)]
    assert Polygons((((*zigzag, zigzag[0]),),)).steps(0.5) > 4000


def test_polygons_may_have_hardly_any_height_or_none() -> None:
    for height in (5e-324, -5e-324, 1e-308, 0.0):
        thin = Polygons(((((0.0, 0.0), (1.0, 0.0), (1.0, height), (0.0, 0.0)),),))
        assert not thin.contains(1.0, 0.5)
        assert thin.contains(0.0, 0.5) is (height > 0), height
