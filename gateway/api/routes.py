"""The route table: every operation with its handler. The document is made from the same table."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

from gateway.api import devices, drain, health, locations
from gateway.api.call import Call
from gateway.api.operation import Listener, Operation, Parameter
from gateway.api.records import (
    DeviceDetail,
    DevicesPage,
    DisconnectAnswer,
    DisconnectBody,
    DrainBody,
    Health,
    LocationsAnswer,
    LocationsBody,
)
from gateway.drain.plan import Plan
from gateway.drain.status import DrainStatus
from gateway.locations.query import MAX_LIMIT, MAX_RADIUS_M, Page

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_TIME = "ms since the Unix epoch, or RFC 3339 with an offset"
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"


def _text(pattern: str, most: int, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most, "pattern": f"^{pattern}$", **more}


def _numbers(count: int) -> dict[str, Any]:
    return _text(",".join([_NUMBER] * count), 200)


_MOMENT = {
    "anyOf": [
        {"type": "integer", "minimum": -62_135_596_800_000, "maximum": 253_402_300_799_999},
        {"type": "string", "format": "date-time", "minLength": 20, "maxLength": 40},
    ]
}
_LIMIT = Parameter(
    "limit", "Most results in one answer.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}
)
_CURSOR = Parameter(
    "cursor",
    "`next` of the answer before, to continue after it; empty: from the beginning.",
    _text("[A-Za-z0-9_-]*", 1024, minLength=0),
)
_FROM = Parameter("from", f"Not before: {_TIME}.", _MOMENT)
_TO = Parameter("to", f"Before: {_TIME}.", _MOMENT)
_DEVICE = Parameter(
    "device", "Only this device; its name has at most 128 bytes.", {"type": "string", "minLength": 1, "maxLength": 128}
)
_PLACE = (
    Parameter("bbox", "`west,south,east,north` in degrees; west > east crosses the antimeridian.", _numbers(4)),
    Parameter("near", "`lat,lon` in degrees; needs `radius_m`.", _numbers(2)),
    Parameter(
        "radius_m",
        "Metres on a sphere of 6,371,008.8 m.",
        {"type": "number", "minimum": 0, "maximum": math.floor(MAX_RADIUS_M)},
    ),
)
_POLYGON: dict[str, Any] = {
    "type": "object",
    "required": ["polygon"],
    "properties": {
        "polygon": {
            "type": "object",
            "description": "A GeoJSON geometry; its edges are straight in degrees.",
            "required": ["type", "coordinates"],
            "properties": {
                "type": {"enum": ["Polygon", "MultiPolygon"]},
                "coordinates": {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": {}}},
            },
        }
    },
}
_PUBLIC, _OPERATIONS, _BOTH = Listener.PUBLIC, Listener.OPERATIONS, Listener.BOTH


class Route(NamedTuple):
    """An operation and what performs it."""

    operation: Operation
    handler: Handler


ROUTES: tuple[Route, ...] = (
    Route(
        Operation("GET", "/livez", "livez", "Whether the process lives.", None, _BOTH, Health),
        health.livez,
    ),
    Route(
        Operation(
            "GET",
            "/readyz",
            "readyz",
            "Whether it wants traffic; 503 while starting or draining.",
            None,
            _BOTH,
            Health,
            parameters=(Parameter("verbose", "Say what is at fault; its value does not matter."),),
            errors=(503,),
        ),
        health.readyz,
    ),
    Route(
        Operation(
            "GET",
            "/metrics",
            "metrics",
            "Prometheus metrics; open to this machine, else scope metrics:read.",
            None,
            _OPERATIONS,
            "text/plain",
            errors=(401, 403),
        ),
        health.metrics,
    ),
    Route(
        Operation(
            "POST",
            "/api/v1/locations",
            "storeLocations",
            "Store locations of the token's device; answered when each is durable or refused.",
            "location:write",
            _PUBLIC,
            LocationsAnswer,
            body=LocationsBody,
            errors=(422, 429, 503),
        ),
        locations.store,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/locations/search",
            "searchLocations",
            "Find locations by place, time and device; newest first.",
            "location:read",
            _OPERATIONS,
            Page,
            parameters=(*_PLACE, _FROM, _TO, _DEVICE, _LIMIT, _CURSOR),
            errors=(422, 503),
        ),
        locations.search,
    ),
    Route(
        Operation(
            "POST",
            "/api/v1/locations/search",
            "searchLocationsInPolygon",
            "Find locations within a polygon; newest first.",
            "location:read",
            _OPERATIONS,
            Page,
            parameters=(_FROM, _TO, _DEVICE, _LIMIT, _CURSOR),
            body=_POLYGON,
            errors=(422, 503),
        ),
        locations.search_polygon,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/devices",
            "listDevices",
            "Connected devices, by id.",
            "device:read",
            _OPERATIONS,
            DevicesPage,
            parameters=(_LIMIT, _CURSOR),
        ),
        devices.page,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/devices/{device}",
            "getDevice",
            "Its connection, its last disconnect and its latest location.",
            "device:read",
            _OPERATIONS,
            DeviceDetail,
            errors=(404, 503),
        ),
        devices.one,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/devices/{device}/track",
            "getTrack",
            "Where it went; oldest first.",
            "location:read",
            _OPERATIONS,
            Page,
            parameters=(_FROM, _TO, _LIMIT, _CURSOR),
            errors=(404, 503),
        ),
        devices.track,
    ),
    Route(
        Operation(
            "POST",
            "/api/v1/devices/{device}/disconnect",
            "disconnectDevice",
            "Ask it to leave, then close its connection.",
            "device:write",
            _OPERATIONS,
            DisconnectAnswer,
            status=202,
            body=DisconnectBody,
            body_required=False,
            errors=(404, 422),
        ),
        devices.disconnect,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/drain",
            "getDrain",
            "Where this process stands, and its last receipt.",
            "admin",
            _OPERATIONS,
            DrainStatus,
        ),
        drain.status,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/drain/plan",
            "planDrain",
            "The curve that a drain would take now.",
            "admin",
            _OPERATIONS,
            Plan,
            parameters=(
                Parameter(
                    "window_s",
                    "Over how long; as the settings say without it.",
                    {"type": "number", "minimum": 1, "maximum": drain.MAX_WINDOW_S},
                ),
                Parameter(
                    "tasks",
                    "How many processes like this one drain together.",
                    {"type": "integer", "minimum": 1, "maximum": drain.MAX_TASKS, "default": 1},
                ),
            ),
        ),
        drain.plan,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/drain/receipt.svg",
            "getReceiptPicture",
            "The last drain as a picture.",
            "admin",
            _OPERATIONS,
            "image/svg+xml",
            errors=(404,),
        ),
        drain.receipt_picture,
    ),
    Route(
        Operation(
            "POST",
            "/api/v1/drain",
            "startDrain",
            "Send all websockets away, evenly.",
            "admin",
            _OPERATIONS,
            DrainStatus,
            status=202,
            body=DrainBody,
            body_required=False,
            errors=(409, 422),
        ),
        drain.start,
    ),
    Route(
        Operation(
            "DELETE",
            "/api/v1/drain",
            "cancelDrain",
            "Let the rest stay.",
            "admin",
            _OPERATIONS,
            DrainStatus,
            errors=(409,),
        ),
        drain.cancel,
    ),
)
