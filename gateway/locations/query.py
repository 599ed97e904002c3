"""A search: its parameters as people write them, checked, and the cursor that continues one."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite, pi
from typing import Any, NamedTuple

from msgspec import DecodeError, Struct, ValidationError, json

from gateway.errors import QueryError
from gateway.locations.event import StoredScalar
from gateway.locations.geo import EARTH_RADIUS_M, BoundingBox, Circle, Polygons, Shape

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_POSITIONS = 10_000
MAX_NAME_BYTES = 128
MAX_RADIUS_M = pi * EARTH_RADIUS_M
# RFC 3339, 5.6, with an offset; in a URL its unescaped "+" arrives as a space.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+ -]\d\d:\d\d)", re.ASCII)
# Milliseconds that 64 bits and a calendar can hold: years 1 to 9999.
_EARLIEST_MS, _LATEST_MS = -62_135_596_800_000, 253_402_300_799_999


class Position(NamedTuple):
    """The place of an event in the order of results: a page continues after the last one of the page before."""

    time: int
    device: str
    id: str


class Query(Struct, frozen=True):
    """What to find. None means no restriction; `from_ms` is inclusive, `to_ms` exclusive (ms since the Unix epoch)."""

    shape: Shape | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    device: str | None = None
    limit: int = DEFAULT_LIMIT
    after: Position | None = None


class Found(Struct, frozen=True, omit_defaults=True, gc=False):
    """A stored event as searches return it; the fields are those of `LocationEvent`, with the device first."""

    device: str
    id: str
    time: int
    lat: float
    lon: float
    accuracy: float | None = None
    altitude: float | None = None
    speed: float | None = None
    heading: float | None = None
    attributes: dict[str, StoredScalar] | None = None


class Page(Struct, frozen=True):
    """One page of results. `next` continues after it; None means that there was nothing more."""

    events: list[Found]
    next: str | None = None


def encode_cursor(position: Position) -> str:
    """An opaque cursor, safe in a URL."""
    return urlsafe_b64encode(json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> Position:
    """The position a cursor stands for. Raises QueryError for one that `encode_cursor` did not make."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        position = json.decode(raw, type=Position)
    except (ValueError, DecodeError, ValidationError) as error:
        raise QueryError("cursor", "is not one that a search returned; start again without it") from error
    if not _EARLIEST_MS <= position.time <= _LATEST_MS:
        raise QueryError("cursor", "is not one that a search returned; start again without it")
    return position


# Python's own reading takes more: underscores, spaces, digits of other scripts.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

_SEARCH_KEYS = frozenset({"bbox", "near", "radius_m", "from", "to", "device", "limit", "cursor"})
_TRACK_KEYS = frozenset({"from", "to", "limit", "cursor"})


def parse_search(parameters: Mapping[str, str], polygon: object = None) -> Query:
    """A query from URL parameters and, with POST, a decoded GeoJSON geometry.

    Raises QueryError that names the parameter, what was wrong with it and what is allowed; unknown ones included.
    """
    _only_known(parameters, _SEARCH_KEYS)
    given = [name for name in ("bbox", "near") if name in parameters] + (["polygon"] if polygon is not None else [])
    if len(given) > 1:
        raise QueryError(given[1], f"cannot be combined with {given[0]}; give one of bbox, near, polygon")
    shape: Shape | None = None
    if "radius_m" in parameters and "near" not in parameters:
        raise QueryError("radius_m", "needs near=lat,lon")
    if "bbox" in parameters:
        shape = parse_bbox(parameters["bbox"])
    elif "near" in parameters:
        shape = parse_circle(parameters["near"], parameters.get("radius_m"))
    elif polygon is not None:
        shape = parse_polygon(polygon)
    return _with_common(parameters, shape, parameters.get("device"))


def parse_track(device: str, parameters: Mapping[str, str]) -> Query:
    """A query for the track of one device; takes `from`, `to`, `limit` and `cursor`. Raises QueryError."""
    _only_known(parameters, _TRACK_KEYS)
    return _with_common(parameters, None, device)


def _only_known(parameters: Mapping[str, str], known: frozenset[str]) -> None:
    for name in parameters:
        if name not in known:
            raise QueryError(name, f"is not a parameter; known are {', '.join(sorted(known))}")


def _with_common(parameters: Mapping[str, str], shape: Shape | None, device: str | None) -> Query:
    if device is not None:
        _check_name(device)
    from_ms = parse_time("from", parameters["from"]) if "from" in parameters else None
    to_ms = parse_time("to", parameters["to"]) if "to" in parameters else None
    if from_ms is not None and to_ms is not None and from_ms > to_ms:
        raise QueryError("from", "is later than to")
    limit = parse_limit(parameters["limit"]) if "limit" in parameters else DEFAULT_LIMIT
    after = decode_cursor(parameters["cursor"]) if parameters.get("cursor") else None
    return Query(shape=shape, from_ms=from_ms, to_ms=to_ms, device=device, limit=limit, after=after)


def _check_name(device: str) -> None:
    try:
        size = len(device.encode())
    except UnicodeEncodeError as error:
        raise QueryError("device", "is not Unicode text") from error
    if not 0 < size <= MAX_NAME_BYTES:
        raise QueryError("device", f"must be 1 to {MAX_NAME_BYTES} bytes, not {size}")


def _numbers(field: str, text: str, names: str) -> list[float]:
    """As many finite decimal numbers as `names` has, separated by commas."""
    parts = text.split(",")
    if len(parts) != len(names.split(",")):
        raise QueryError(field, f"must be {names}, not {text[:80]!r}")
    numbers = [_number(field, part) for part in parts]
    for name, number in zip(names.split(","), numbers, strict=True):
        limit = 90.0 if name in ("south", "north", "lat") else 180.0
        if abs(number) > limit:
            raise QueryError(field, f"{name} must be between {-limit:.0f} and {limit:.0f} degrees, not {number!r}")
    return numbers


def _number(field: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise QueryError(field, f"{text[:40]!r} is not a number")
    number = float(text)
    if not isfinite(number):
        raise QueryError(field, f"{text[:40]!r} is not a finite number")
    return number


def parse_bbox(text: str) -> BoundingBox:
    """`west,south,east,north` in degrees; west > east crosses the antimeridian. Raises QueryError."""
    west, south, east, north = _numbers("bbox", text, "west,south,east,north")
    if south > north:
        raise QueryError("bbox", f"south {south!r} is north of {north!r}; the order is west,south,east,north")
    return BoundingBox(west, south, east, north)


def parse_circle(near: str, radius_m: str | None) -> Circle:
    """`lat,lon` in degrees and a radius in metres. Raises QueryError."""
    lat, lon = _numbers("near", near, "lat,lon")
    if radius_m is None:
        raise QueryError("radius_m", "is missing; near needs a radius in metres")
    radius = _number("radius_m", radius_m)
    if not 0 <= radius <= MAX_RADIUS_M:
        raise QueryError("radius_m", f"must be between 0 and {MAX_RADIUS_M:.0f} (half way around), not {radius!r}")
    return Circle(lat, lon, radius)


def parse_limit(text: str) -> int:
    """1 to 1,000. Raises QueryError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise QueryError("limit", f"must be a whole number from 1 to {MAX_LIMIT}, not {text[:40]!r}")
    return int(text)


def parse_time(field: str, text: str) -> int:
    """Ms since the Unix epoch, written so or as an RFC 3339 date and time with its offset. Raises QueryError."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        time_ms = int(text) if len(text) <= 16 else _LATEST_MS + 1
        if not _EARLIEST_MS <= time_ms <= _LATEST_MS:
            raise QueryError(field, "is outside of the years 1 to 9999; milliseconds since the Unix epoch are expected")
        return time_ms
    try:
        moment = datetime.fromisoformat(text.upper().replace(" ", "+")) if _TIME.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise QueryError(
            field, f"must be milliseconds since the Unix epoch or like 2026-11-22T10:00:00Z, not {text[:40]!r}"
        )
    # Not through astimezone: the first and last days of the calendar do not exist in every zone.
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def parse_polygon(geometry: object) -> Polygons:
    """A decoded GeoJSON Polygon or MultiPolygon (see `Polygons` for what its edges mean). Raises QueryError."""
    if not isinstance(geometry, dict) or geometry.get("type") not in ("Polygon", "MultiPolygon"):
        raise QueryError("polygon", "must be a GeoJSON geometry of type Polygon or MultiPolygon")
    coordinates = geometry.get("coordinates")
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    if not isinstance(polygons, list) or not polygons:
        raise QueryError("polygon", "coordinates must be a list that is not empty")
    left = [MAX_POSITIONS]
    return Polygons(tuple(_polygon(rings, left) for rings in polygons))


def _polygon(rings: Any, left: list[int]) -> tuple[tuple[tuple[float, float], ...], ...]:
    if not isinstance(rings, list) or not rings:
        raise QueryError("polygon", "each polygon must be a list of rings, the outer one first")
    return tuple(_ring(ring, left) for ring in rings)


def _ring(ring: Any, left: list[int]) -> tuple[tuple[float, float], ...]:
    if not isinstance(ring, list) or len(ring) < 4 or ring[0] != ring[-1]:
        raise QueryError("polygon", "each ring must have at least 4 positions, the last equal to the first")
    left[0] -= len(ring)
    if left[0] < 0:
        raise QueryError("polygon", f"has more than {MAX_POSITIONS} positions")
    return tuple(_position(position) for position in ring)


def _position(position: Any) -> tuple[float, float]:
    if not isinstance(position, list) or len(position) < 2:
        raise QueryError("polygon", "each position must be [longitude, latitude]")
    lon, lat = position[0], position[1]
    for name, value, limit in (("longitude", lon, 180), ("latitude", lat, 90)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
            raise QueryError("polygon", f"a {name} must be a number between {-limit} and {limit}")
    return float(lon), float(lat)
