"""Searches: our queries as OpenSearch's, its hits as ours.

OpenSearch narrows, and every hit is checked again here: it keeps places as 32 bit numbers (4e-8 degrees off) and has
its own mind about edges, poles and the antimeridian. So both kinds of index answer alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, json

from gateway.adapters.opensearch.connection import Response
from gateway.errors import IndexBusyError, StoreError
from gateway.locations.cover import cover
from gateway.locations.document import Document
from gateway.locations.geo import Box, Circle
from gateway.locations.query import Found, Position, Query

# Wider by more than the rounding of a stored place.
MARGIN_DEG = 1e-6
MARGIN_M = 1.0
# Of a quarter of the sphere a circle's box is no worse than the circle.
WIDE_M = 5_000_000.0
# OpenSearch, "index.max_result_window".
MAX_PAGE = 10_000
BUSY_S = 2
PARAMETERS = {
    "ignore_unavailable": "true",
    "allow_no_indices": "true",
    # Half of an answer would look like all of it.
    "allow_partial_search_results": "false",
    "filter_path": "timed_out,hits.hits._source,error.type,error.reason",
}


class _Source(Struct, rename={"source": "_source"}):
    source: Document


class _Hits(Struct, frozen=True):
    hits: Sequence[_Source] = ()


class _Body(Struct):
    # Without hits there is nothing else that tells the answer from a proxy's.
    timed_out: bool
    hits: _Hits = _Hits()


class _Got(Struct, rename={"source": "_source"}):
    found: bool = False
    source: Document | None = None


_decode = json.Decoder(_Body).decode
_decode_got = json.Decoder(_Got).decode


def search_body(account: str, query: Query, after: Position | None, size: int, *, ascending: bool) -> bytes:
    """The body of a search for one page. `after` is the last event of the page before."""
    filters: list[dict[str, Any]] = [{"term": {"account": account}}]
    times = {"gte": query.from_ms, "lt": query.to_ms}
    times = {name: value for name, value in times.items() if value is not None}
    if times:
        filters.append({"range": {"time": {**times, "format": "epoch_millis"}}})
    if query.device is not None:
        filters.append({"term": {"device": query.device}})
    if query.shape is not None:
        boxes = [{"geo_bounding_box": {"location": _box(box)}} for box in cover(query.shape)]
        filters.append({"bool": {"should": boxes, "minimum_should_match": 1}})
        if isinstance(query.shape, Circle) and query.shape.radius_m < WIDE_M:
            filters.append(_circle(query.shape))
    body: dict[str, Any] = {
        "size": size,
        "track_total_hits": False,
        "query": {"bool": {"filter": filters}},
        # A cursor ends in fields of our own: `_shard_doc` is not unique over several indices.
        "sort": [{"time": {"order": "asc" if ascending else "desc"}}, {"device": "asc"}, {"id": "asc"}],
    }
    if after is not None:
        body["search_after"] = [after.time, after.device, after.id]
    return json.encode(body)


def _box(box: Box) -> dict[str, float]:
    return {
        "left": max(-180.0, box.west - MARGIN_DEG),
        "right": min(180.0, box.east + MARGIN_DEG),
        "bottom": max(-90.0, box.south - MARGIN_DEG),
        "top": min(90.0, box.north + MARGIN_DEG),
    }


def _circle(circle: Circle) -> dict[str, Any]:
    radius_m = circle.radius_m * (1 + MARGIN_DEG) + MARGIN_M
    return {"geo_distance": {"distance": f"{radius_m}m", "location": {"lat": circle.lat, "lon": circle.lon}}}


def read_page(response: Response) -> list[Found]:
    """The hits of an answer. Raises IndexBusyError, StoreError."""
    _check(response)
    body = response.decoded(_decode)
    if body.timed_out:
        raise IndexBusyError("OpenSearch broke off a search", BUSY_S)
    return [_found(hit.source) for hit in body.hits.hits]


def read_one(response: Response) -> Found | None:
    """The document of a GET; None: there is none. Raises IndexBusyError, StoreError."""
    if response.status == 404:
        return None
    _check(response)
    got = response.decoded(_decode_got).source
    return None if got is None else _found(got)


def _check(response: Response) -> None:
    if response.status == 200:
        return
    if response.status in (429, 502, 503, 504):
        raise IndexBusyError(f"OpenSearch refuses searches now: HTTP {response.status}", BUSY_S)
    raise StoreError(f"OpenSearch refused a search: HTTP {response.status} {response.body[:300]!r}")


def _found(document: Document) -> Found:
    lon, lat = document.location
    return Found(
        document.device,
        document.id,
        document.time,
        lat,
        lon,
        document.accuracy,
        document.altitude,
        document.speed,
        document.heading,
        document.attributes,
    )
