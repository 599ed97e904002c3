"""A page of events as GeoJSON (RFC 7946), for maps and tools that read nothing else."""

from __future__ import annotations

import re
from typing import Any

from msgspec import json

from gateway.locations.query import Found, Page

MEDIA_TYPE = "application/geo+json"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {"type": "array", "items": {"type": "object", "required": ["type", "geometry", "properties"]}},
        "next": {"type": "string"},
    },
}
_WEIGHT = re.compile(r"q=(0|1|0?\.\d{1,3}|0\.\d{0,3}|1\.0{0,3})")
_encode = json.Encoder().encode


def wanted(accept: str) -> bool:
    """Whether an `Accept` header names GeoJSON and does not prefer JSON (RFC 9110, 12.5.1)."""
    weights = {"application/json": 0.0, MEDIA_TYPE: 0.0}
    for part in accept.split(","):
        name, *parameters = [piece.strip().lower() for piece in part.split(";")]
        if name in weights:
            found = next((match for text in parameters if (match := _WEIGHT.fullmatch(text))), None)
            weights[name] = float(found[1]) if found is not None else 1.0
    return weights[MEDIA_TYPE] > 0 and weights[MEDIA_TYPE] >= weights["application/json"]


def encode(page: Page) -> bytes:
    """A FeatureCollection; `next` is a foreign member (RFC 7946, 6.1), the cursor of the next page, if there is one."""
    collection: dict[str, Any] = {"type": "FeatureCollection", "features": [_feature(one) for one in page.events]}
    if page.next is not None:
        collection["next"] = page.next
    return _encode(collection)


def _feature(event: Found) -> dict[str, Any]:
    place = [event.lon, event.lat]
    if event.altitude is not None:
        place.append(event.altitude)
    properties = {
        "device": event.device,
        "id": event.id,
        "time": event.time,
        "accuracy": event.accuracy,
        "speed": event.speed,
        "heading": event.heading,
        "attributes": event.attributes,
    }
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": place},
        "properties": {name: value for name, value in properties.items() if value is not None},
    }
