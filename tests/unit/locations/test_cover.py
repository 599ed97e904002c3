"""Rectangles that hold a shape."""

from math import cos, pi, sin

from hypothesis import given
from hypothesis import strategies as st

from gateway.locations.cover import BANDS, MAX_BOXES, cover
from gateway.locations.geo import BoundingBox, Circle, Polygons

coordinate = st.integers(-36, 36).map(lambda n: n * 5.0) | st.floats(-180, 180)
latitude = st.integers(-18, 18).map(lambda n: n * 5.0) | st.floats(-90, 90)
ring = st.lists(st.tuples(coordinate, latitude), min_size=3, max_size=8).map(lambda points: (*points, points[0]))
MARGIN_DEG = 1e-6


@given(st.lists(ring.map(lambda outer: (outer,)), min_size=1, max_size=3), coordinate, latitude)
def test_no_point_of_a_polygon_is_left_out(
    polygons: list[tuple[tuple[tuple[float, float], ...]]], lon: float, lat: float
) -> None:
    shape = Polygons(tuple(polygons))
    vertex_lon, vertex_lat = polygons[0][0][0]
    for at_lat, at_lon in ((lat, lon), (vertex_lat, vertex_lon)):
        if shape.contains(at_lat, at_lon):
            assert any(
                box.west - MARGIN_DEG <= at_lon <= box.east + MARGIN_DEG
                and box.south - MARGIN_DEG <= at_lat <= box.north + MARGIN_DEG
                for box in cover(shape)
            )


def test_a_slanting_road_is_covered_closely() -> None:
    road = ((0.0, 0.0), (10.0, 10.0), (10.0, 10.1), (0.0, 0.1), (0.0, 0.0))
    boxes = cover(Polygons(((road,),)))
    area = sum((box.east - box.west) * (box.north - box.south) for box in boxes)
    assert len(boxes) == BANDS
    assert area < 6


def test_other_shapes_are_their_own_boxes() -> None:
    for shape in (BoundingBox(170, -10, -170, 10), Circle(1, 2, 3)):
        assert cover(shape) == shape.boxes()


def test_many_polygons_have_few_boxes() -> None:
    def star(number: int) -> tuple[tuple[float, float], ...]:
        angles = [number + pi * k / 4 for k in range(8)]
        points = [(number % 20 * 5 + sin(a), number // 20 * 5 + cos(a)) for a in angles]
        return (*points, points[0])

    assert len(cover(Polygons(tuple((star(number),) for number in range(300))))) <= MAX_BOXES


def test_the_meridian_is_one_where_a_polygon_is_as_wide_as_the_world() -> None:
    sliver = ((-180.0, -90.0), (-180.0, -90.0), (180.0, -89.5), (-180.0, -90.0))
    shape = Polygons(((sliver,),))
    for lon in (-180.0, 180.0):
        assert shape.contains(-89.5, lon)
        assert any(box.south <= -89.5 <= box.north and box.west <= lon <= box.east for box in cover(shape)), lon
