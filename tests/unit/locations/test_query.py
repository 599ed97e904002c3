import re

import pytest

from gateway.errors import QueryError
from gateway.locations.geo import BoundingBox, Circle, Polygons
from gateway.locations.query import (
    MAX_POSITIONS,
    Position,
    Query,
    decode_cursor,
    encode_cursor,
    parse_search,
    parse_time,
    parse_track,
)

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]


def test_nothing_given_is_the_newest_of_the_world() -> None:
    assert parse_search({}) == Query(limit=100)


def test_every_parameter() -> None:
    cursor = encode_cursor(Position(5, "d", "e"))
    parameters = {"bbox": "170,-10,-170,10", "from": "1", "to": "2", "device": "d", "limit": "7", "cursor": cursor}
    expected = Query(BoundingBox(170, -10, -170, 10), 1, 2, "d", 7, Position(5, "d", "e"))
    assert parse_search(parameters) == expected
    assert parse_search({"near": "1,2", "radius_m": "3.5"}).shape == Circle(1, 2, 3.5)
    assert parse_track("d", {"from": "1"}) == Query(device="d", from_ms=1)


def test_polygons() -> None:
    ring = tuple((float(lon), float(lat)) for lon, lat in SQUARE)
    assert parse_search({}, {"type": "Polygon", "coordinates": [SQUARE]}).shape == Polygons(((ring,),))
    many = parse_search({}, {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE, SQUARE]]}).shape
    assert many == Polygons(((ring,), (ring, ring)))


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1700000000123", 1_700_000_000_123),
        ("-1", -1),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.25Z", 250),
        ("1970-01-01T09:00:00+09:00", 0),
        ("1970-01-01T09:00:00 09:00", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("1970-01-01t00:00:01z", 1000),
        ("1970-01-01T00:00:01z", 1000),
        ("1970-01-01t09:00:00+09:00", 0),
    ],
)
def test_times(text: str, time_ms: int) -> None:
    assert parse_time("from", text) == time_ms


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"bbox": "1,2,3"}, "bbox"),
        ({"bbox": "1,2,3,x"}, "bbox"),
        ({"bbox": "1,2,3,nan"}, "bbox"),
        ({"bbox": "1,2,3,inf"}, "bbox"),
        ({"bbox": "-181,0,0,0"}, "bbox"),
        ({"bbox": "0,-91,0,0"}, "bbox"),
        ({"bbox": "0,5,1,4"}, "bbox"),
        ({"near": "1,2"}, "radius_m"),
        ({"near": "1", "radius_m": "5"}, "near"),
        ({"near": "91,2", "radius_m": "5"}, "near"),
        ({"near": "1,2", "radius_m": "-1"}, "radius_m"),
        ({"near": "1,2", "radius_m": "1e9"}, "radius_m"),
        ({"radius_m": "5"}, "radius_m"),
        ({"near": "1,2", "radius_m": "5", "bbox": "0,0,1,1"}, "near"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-11-22"}, "from"),
        ({"from": "2026-11-22T10:00:00"}, "from"),
        ({"to": "99999999999999999999"}, "to"),
        ({"from": "--5"}, "from"),
        ({"from": "1_0"}, "from"),
        ({"from": "１０"}, "from"),
        ({"from": "２０２６-11-22T10:00:00Z"}, "from"),
        ({"from": "2026-W47-7T10:00:00Z"}, "from"),
        ({"from": "20261122T100000Z"}, "from"),
        ({"from": " 2026-11-22T10:00:00Z"}, "from"),
        ({"bbox": "1_0,2,30,4"}, "bbox"),
        ({"bbox": "１,2,3,4"}, "bbox"),
        ({"bbox": " 1,2,3,4"}, "bbox"),
        ({"bbox": "1,2,3,infinity"}, "bbox"),
        ({"bbox": "0x1,2,3,4"}, "bbox"),
        ({"near": "1,2", "radius_m": "1_000"}, "radius_m"),
        ({"near": "1,2", "radius_m": "１"}, "radius_m"),
        ({"near": "1,2", "radius_m": "1e999"}, "radius_m"),
        ({"near": "1,2", "radius_m": ""}, "radius_m"),
        ({"from": "2", "to": "1"}, "from"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"device": ""}, "device"),
        ({"device": "x" * 129}, "device"),
        ({"device": "\ud800"}, "device"),
        ({"box": "1"}, "box"),
        ({"cursor": "!"}, "cursor"),
        ({"cursor": "e30"}, "cursor"),
        ({"cursor": "WzEsMl0"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"cursor": encode_cursor(Position(1 << 62, "d", "e"))}, "cursor"),
    ],
)
def test_what_is_wrong_is_named(parameters: dict[str, str], field: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_search(parameters)
    assert caught.value.field == field
    assert re.search(r"must|not|needs|later|missing|combined|outside|order", caught.value.problem)


@pytest.mark.parametrize(
    "geometry",
    [
        5,
        [],
        {"type": "Point", "coordinates": [0, 0]},
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [SQUARE[:3]]},
        {"type": "Polygon", "coordinates": [SQUARE[:-1]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [200, 0], [0, 5], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [0, "x"], [0, 5], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [0, True], [0, 5], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [0], [0, 5], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [0, float("nan")], [0, 5], [0, 0]]]},
        {"type": "MultiPolygon", "coordinates": [SQUARE]},
        {"type": "Polygon", "coordinates": [[[0, 0]] * (MAX_POSITIONS + 1)]},
    ],
)
def test_bad_geometries(geometry: object) -> None:
    with pytest.raises(QueryError, match=r"^polygon: "):
        parse_search({}, geometry)


def test_numbers_as_people_write_them() -> None:
    assert parse_search({"bbox": "-1.5,.5,2.,+4e0"}).shape == BoundingBox(-1.5, 0.5, 2.0, 4.0)


def test_a_cursor_survives_the_way_through_a_url() -> None:
    position = Position(-5, "dévice/?", "id&= ~")
    text = encode_cursor(position)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    assert decode_cursor(text) == position


def test_a_track_takes_no_shape() -> None:
    with pytest.raises(QueryError, match="bbox"):
        parse_track("d", {"bbox": "0,0,1,1"})
