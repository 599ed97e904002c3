"""Devices: which are connected, what was last heard of one, where it went, and asking it to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from gateway.api.call import Call, answer, decode, decode_cursor, encode_cursor
from gateway.api.locations import GEOJSON, find
from gateway.api.operation import Listener, Operation
from gateway.api.parameters import CURSOR, FROM, LIMIT, TO
from gateway.api.problem import Problem, unavailable
from gateway.api.records import DeviceDetail, DevicesPage, DisconnectAnswer, DisconnectBody
from gateway.api.route import Route
from gateway.errors import BrokerDownError, QueryError
from gateway.identity.identity import MAX_NAME_BYTES
from gateway.locations.query import DEFAULT_LIMIT, Page, parse_limit, parse_track

T = TypeVar("T")
LIST_PARAMETERS = ("limit", "cursor")


async def page(call: Call) -> web.StreamResponse:
    """Connected devices of the account, by id."""
    query = call.query()
    for name in query:
        if name not in LIST_PARAMETERS:
            raise QueryError(name, f"is not a parameter; known are {', '.join(LIST_PARAMETERS)}")
    limit = parse_limit(query["limit"]) if "limit" in query else DEFAULT_LIMIT
    after = decode_cursor(query["cursor"]) if query.get("cursor") else None
    found = await call.api.devices.page(call.identity.account, after, limit)
    following = None if found.next is None else encode_cursor(found.next)
    return answer(DevicesPage(found.devices, following, found.incomplete or None))


async def one(call: Call) -> web.StreamResponse:
    """All that is known of a device; 404 when that is nothing."""
    account, device = call.identity.account, name_of(call)
    known = await reachable(call.api.devices.describe(account, device))
    latest = known.latest
    if latest is None:
        latest = await _stored_latest(call, account, device)
    if known.connection is None and known.last_disconnect is None and latest is None:
        raise _unknown()
    return answer(DeviceDetail(device, known.connection, known.last_disconnect, latest))


async def track(call: Call) -> web.StreamResponse:
    """Where it went, oldest first; empty for a device that nothing is known of."""
    return await find(call, parse_track(name_of(call), call.query()), track=True)


async def disconnect(call: Call) -> web.StreamResponse:
    """Begin a planned close."""
    device = name_of(call)
    payload = await call.body()
    wish = decode(payload, DisconnectBody) if payload.strip() else DisconnectBody()
    asked = call.api.devices.dismiss(call.identity.account, device, wish.code, wish.reason)
    if not await reachable(asked):
        raise Problem(404, "no such device is connected")
    return answer(DisconnectAnswer(device, wish.code, wish.reason), 202)


async def reachable(asking: Awaitable[T]) -> T:
    """What is asked of all gateways. Raises Problem 503 when that is not possible."""
    try:
        return await asking
    except BrokerDownError as error:
        raise unavailable(f"other gateways cannot be asked: {error}") from error


async def _stored_latest(call: Call, account: str, device: str) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(call.api.deadline_s):
            found = await call.api.search.latest(account, device)
    except TimeoutError as error:
        raise unavailable("the index does not answer in time") from error
    return None if found is None else msgspec.to_builtins(found)


def name_of(call: Call) -> str:
    """The device of the path. Raises Problem for a name that no device can have."""
    if not 0 < len(call.device.encode(errors="replace")) <= MAX_NAME_BYTES:
        raise _unknown()
    return call.device


def _unknown() -> Problem:
    return Problem(404, "nothing is known of such a device")


ROUTES = (
    Route(
        Operation(
            "GET",
            "/api/v1/devices",
            "listDevices",
            "Connected devices, by id.",
            "device:read",
            Listener.OPERATIONS,
            DevicesPage,
            parameters=(LIMIT, CURSOR),
        ),
        page,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/devices/{device}",
            "getDevice",
            "Its connection, its last disconnect and its latest location.",
            "device:read",
            Listener.OPERATIONS,
            DeviceDetail,
            errors=(404, 503),
        ),
        one,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/devices/{device}/track",
            "getTrack",
            "Where it went; oldest first.",
            "location:read",
            Listener.OPERATIONS,
            Page,
            parameters=(FROM, TO, LIMIT, CURSOR),
            also=GEOJSON,
            errors=(404, 503),
        ),
        track,
    ),
    Route(
        Operation(
            "POST",
            "/api/v1/devices/{device}/disconnect",
            "disconnectDevice",
            "Ask it to leave, then close its connection.",
            "device:write",
            Listener.OPERATIONS,
            DisconnectAnswer,
            status=202,
            body=DisconnectBody,
            body_required=False,
            errors=(404, 422, 503),
        ),
        disconnect,
    ),
)
