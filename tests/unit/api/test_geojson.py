"""Events as GeoJSON."""

import pytest
from msgspec import json

from gateway.api.geojson import encode, wanted
from gateway.locations.query import Page
from tests.support.locations import NOON_MS, event, found


@pytest.mark.parametrize(
    ("accept", "asked"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/geo+json", True),
        ("Application/Geo+JSON; charset=utf-8", True),
        ("application/geo+json, application/json", True),
        ("application/geo+json;q=0.5, application/json", False),
        ("application/json;q=0.5, application/geo+json;q=0.9", True),
        ("application/geo+json;q=0", False),
        ("application/geo+json;q=nonsense", True),
        (",;,", False),
    ],
)
def test_it_is_sent_to_who_asks_for_it(accept: str, asked: bool) -> None:
    assert wanted(accept) is asked


def test_a_page() -> None:
    one = found("d", event("e", NOON_MS, 1.5, -2.5, accuracy=3.0, altitude=-4.0, attributes={"a": None}))
    two = found("d", event("f", NOON_MS, 0.0, 180.0))
    assert json.decode(encode(Page([one, two], "after"))) == {
        "type": "FeatureCollection",
        "next": "after",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [-2.5, 1.5, -4.0]},
                "properties": {"device": "d", "id": "e", "time": NOON_MS, "accuracy": 3.0, "attributes": {"a": None}},
            },
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [180.0, 0.0]},
                "properties": {"device": "d", "id": "f", "time": NOON_MS},
            },
        ],
    }
    assert json.decode(encode(Page([]))) == {"type": "FeatureCollection", "features": []}
