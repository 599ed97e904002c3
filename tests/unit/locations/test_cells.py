from gateway.locations.cells import AXIS_BITS, CELL_BITS, cell, cover
from gateway.locations.geo import Box


def test_the_corners_of_the_world() -> None:
    assert cell(-90.0, -180.0) == 0
    assert cell(90.0, 180.0) == (1 << CELL_BITS) - 1


def test_bits_of_both_coordinates_alternate_longitude_first() -> None:
    assert cell(-90.0, 0.0) == 1 << 2 * AXIS_BITS - 1
    assert cell(0.0, -180.0) == 1 << 2 * AXIS_BITS - 2


def test_the_world_is_one_range() -> None:
    assert cover([Box(-180, -90, 180, 90)]) == [(0, (1 << CELL_BITS) - 1)]


def test_a_point_is_one_cell() -> None:
    here = cell(35.6, 139.7)
    assert cover([Box(139.7, 35.6, 139.7, 35.6)]) == [(here, here)]


def test_no_box_is_no_range() -> None:
    assert cover([]) == []
