"""Query parameters that several operations have."""

from __future__ import annotations

import math
from typing import Any

from gateway.api.operation import Parameter
from gateway.locations.query import MAX_LIMIT, MAX_RADIUS_M

_TIME = "ms since the Unix epoch, or RFC 3339 with an offset"
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"


def _text(pattern: str, maximum: int, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": maximum, "pattern": f"^{pattern}$", **more}


def _numbers(count: int) -> dict[str, Any]:
    return _text(",".join([_NUMBER] * count), 200)


_MOMENT = {
    "anyOf": [
        {"type": "integer", "minimum": -62_135_596_800_000, "maximum": 253_402_300_799_999},
        {"type": "string", "format": "date-time", "minLength": 20, "maxLength": 40},
    ]
}
LIMIT = Parameter(
    "limit", "Most results in one answer.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}
)
CURSOR = Parameter(
    "cursor",
    "`next` of the answer before, to continue after it; empty: from the beginning.",
    _text("[A-Za-z0-9_-]*", 1024, minLength=0),
)
FROM = Parameter("from", f"Not before: {_TIME}.", _MOMENT)
TO = Parameter("to", f"Before: {_TIME}.", _MOMENT)
DEVICE = Parameter(
    "device",
    "Only this device; its name has at most 128 bytes.",
    {"type": "string", "minLength": 1, "maxLength": 128},
)
PLACE = (
    Parameter("bbox", "`west,south,east,north` in degrees; west > east crosses the antimeridian.", _numbers(4)),
    Parameter("near", "`lat,lon` in degrees; needs `radius_m`.", _numbers(2)),
    Parameter(
        "radius_m",
        "Metres on a sphere of 6,371,008.8 m.",
        {"type": "number", "minimum": 0, "maximum": math.floor(MAX_RADIUS_M)},
    ),
)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "What is asked for again under the same key is done once; the answer is that of the first.",
    _text("[!-~]+", 255),
    "header",
)
