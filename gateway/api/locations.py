"""Locations over HTTP: stored for devices without a websocket, and searched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from gateway.api import geojson
from gateway.api.call import Call, answer, decode, invalid
from gateway.api.operation import Listener, Operation
from gateway.api.parameters import CURSOR, DEVICE, FROM, LIMIT, PLACE, TO
from gateway.api.problem import Problem, bad_field, unavailable
from gateway.api.records import LocationsAnswer, LocationsBody, Refused, Stored
from gateway.api.route import Route
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability, Refusal
from gateway.locations.query import Page, Query, parse_search
from gateway.protocol.loose import loosely
from gateway.protocol.messages import Nack, decode_locations

# An answer of the same events.
GEOJSON = {geojson.MEDIA_TYPE: geojson.SCHEMA}


class _Typed(msgspec.Struct):
    type: str = "locations"


class Receipt:
    """The `Outcomes` of the events of one request; `settled` is set when all are known, `durable` told what is."""

    def __init__(self, ids: set[str], durable: Callable[[Sequence[LocationEvent]], None]) -> None:
        self.settled = asyncio.Event()
        self._durable = durable
        self.acks: list[Stored] = []
        self.nacks: list[Refused] = []
        self._pending = ids

    def acknowledge(self, sender: object, events: Sequence[LocationEvent], durability: Durability) -> None:
        """These are durable."""
        self.acks.append(Stored([event.id for event in events], str(durability.value)))
        self._durable(events)
        self._settle(event.id for event in events)

    def refuse(self, sender: object, ids: Sequence[str], refusal: Refusal) -> None:
        """These are not stored."""
        self.nacks.append(Refused(list(ids), *refusal))
        self._settle(ids)

    def resume(self, sender: object) -> None:
        """A request has been read to its end already."""

    def _settle(self, ids: Iterable[str]) -> None:
        self._pending.difference_update(ids)
        if not self._pending:
            self.settled.set()


async def store(call: Call) -> web.StreamResponse:
    """Hand the events to the pipeline and wait until each of them is settled, or 503: it is safe to send all again."""
    _may_send(call)
    payload = await call.body()
    _may_send(call)
    key, now_s = _sender(call), call.api.clock.monotonic_s()
    call.api.rates.spend(key, now_s, 1, len(payload))
    if _kind(payload) != "locations":
        raise bad_field("$.type", "must be locations or be left out", status=422)
    try:
        judge = partial(call.api.pipeline.times.judge, call.identity.account, call.identity.device)
        good, bad = decode_locations(payload, call.api.clock.time_ms(), judge)
    except msgspec.DecodeError as error:
        raise invalid(error) from error
    call.api.rates.spend(key, now_s, len(good) + len(bad) - 1, 0)
    refused = [_refused(nack) for nack in bad]
    if not good:
        return answer(LocationsAnswer([], refused))
    receipt = await _settle(call, good)
    return answer(LocationsAnswer(receipt.acks, refused + receipt.nacks))


def _kind(payload: bytes) -> str:
    """The `type` of the body. Raises Problem when it is not a JSON object."""
    try:
        return decode(payload, _Typed).type
    except Problem:
        # Text that is not Unicode in one event must not spoil the others.
        raw = loosely(payload)
        kind = raw.get("type", "locations") if isinstance(raw, dict) and "events" in raw else None
        if not isinstance(kind, str):
            raise
        return kind


async def search(call: Call) -> web.StreamResponse:
    """By place, time and device; newest first."""
    return await find(call, parse_search(call.query()))


async def search_polygon(call: Call) -> web.StreamResponse:
    """The same with a GeoJSON geometry in the body."""
    body = decode(await call.body(), dict[str, object])
    geometry = body.get("polygon", body)
    if geometry is None:
        raise bad_field("polygon", "must be a GeoJSON geometry of type Polygon or MultiPolygon")
    return await find(call, parse_search(call.query(), geometry))


async def find(call: Call, query: Query, *, track: bool = False) -> web.StreamResponse:
    """Ask the index, for a bounded time, and no longer than somebody waits for the answer."""
    ask = call.api.search.track if track else call.api.search.search
    try:
        with call.for_the_answer():
            async with asyncio.timeout(call.api.deadline_s):
                return _page(call, await ask(call.identity.account, query))
    except TimeoutError as error:
        raise unavailable(f"the search took longer than {call.api.deadline_s:g} s; narrow it") from error


def _page(call: Call, page: Page) -> web.Response:
    """As JSON, or as GeoJSON for who accepts that."""
    as_geojson = geojson.wanted(call.request.headers.get("Accept", ""))
    found = web.Response(body=geojson.encode(page), content_type=geojson.MEDIA_TYPE) if as_geojson else answer(page)
    found.headers["Vary"] = "Accept"
    return found


def _sender(call: Call) -> tuple[str, str]:
    return call.identity.account, call.identity.device


def _may_send(call: Call) -> None:
    """Asked before the body is read, and again when it is there: others of the same device may have been faster."""
    wait_s = call.api.rates.wait_s(_sender(call), call.api.clock.monotonic_s())
    if wait_s:
        raise Problem(429, "this device sends more than it may", headers={"Retry-After": str(wait_s)})


async def _settle(call: Call, events: list[LocationEvent]) -> Receipt:
    # The same id twice is one event; the first wins, as it does over a websocket.
    unique: dict[str, LocationEvent] = {}
    for event in events:
        unique.setdefault(event.id, event)
    account, device = call.identity.account, call.identity.device
    receipt = Receipt(set(unique), partial(call.api.moves.moved, account, device))
    pipeline = call.api.pipeline
    submitted = pipeline.submit(receipt, receipt, account, device, list(unique.values()))
    if submitted.refusal is not None:
        receipt.refuse(receipt, list(unique), submitted.refusal)
    try:
        async with asyncio.timeout(call.api.deadline_s):
            await receipt.settled.wait()
    except TimeoutError as error:
        raise unavailable(
            f"not everything was stored within {call.api.deadline_s:g} s; send it again with the same ids"
        ) from error
    finally:
        pipeline.forget(receipt)
    return receipt


def _refused(nack: Nack) -> Refused:
    return Refused(list(nack.ids), nack.code, nack.message, nack.retry_after_ms)


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
ROUTES = (
    Route(
        Operation(
            "POST",
            "/api/v1/locations",
            "storeLocations",
            "Store locations of the token's device; answered when each is durable or refused.",
            "location:write",
            Listener.PUBLIC,
            LocationsAnswer,
            body=LocationsBody,
            errors=(422, 429, 503),
        ),
        store,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/locations/search",
            "searchLocations",
            "Find locations by place, time and device; newest first.",
            "location:read",
            Listener.OPERATIONS,
            Page,
            parameters=(*PLACE, FROM, TO, DEVICE, LIMIT, CURSOR),
            also=GEOJSON,
            errors=(422, 503),
        ),
        search,
    ),
    Route(
        Operation(
            "POST",
            "/api/v1/locations/search",
            "searchLocationsInPolygon",
            "Find locations within a polygon; newest first.",
            "location:read",
            Listener.OPERATIONS,
            Page,
            parameters=(FROM, TO, DEVICE, LIMIT, CURSOR),
            body=_POLYGON,
            also=GEOJSON,
            errors=(422, 503),
        ),
        search_polygon,
    ),
)
