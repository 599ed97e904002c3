"""A location event: the record on the wire, and what makes one acceptable."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, json

MAX_ID_LENGTH = 64
MAX_ATTRIBUTES_BYTES = 1024
OLDEST_MS = 30 * 24 * 3600 * 1000
NEWEST_MS = 24 * 3600 * 1000

Scalar = str | int | float | bool | None

_encode = json.Encoder().encode


class LocationEvent(Struct, frozen=True, omit_defaults=True, gc=False):
    """One position of one device, in WGS 84.

    `time` is in ms since the Unix epoch, `lat`, `lon` and `heading` in degrees, `accuracy` and `altitude` in metres,
    `speed` in metres a second. None means the device did not say. The type of every field is checked while decoding.
    """

    id: Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
    time: int
    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    accuracy: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    altitude: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    speed: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    heading: Annotated[float, Meta(ge=-360, le=360)] | None = None
    attributes: dict[str, Scalar] | None = None


def check(event: LocationEvent, now_ms: int) -> str | None:
    """What is wrong with a decoded event besides types and ranges, with the path of the field; None if nothing.

    `now_ms` is the wall clock. A device with a broken clock must not make indices of its own: the time has to lie
    between 30 days ago and 1 day ahead, both inclusive.
    """
    age_ms = now_ms - event.time
    if age_ms > OLDEST_MS:
        return "time is more than 30 days ago - at `$.time`"
    if age_ms < -NEWEST_MS:
        return "time is more than 1 day ahead - at `$.time`"
    name = event.id
    if not (name.isascii() and name.isprintable()) or not 0 < len(name) <= MAX_ID_LENGTH:
        return "id is not 1 to 64 printable ASCII characters - at `$.id`"
    if event.attributes is not None and len(_encode(event.attributes)) > MAX_ATTRIBUTES_BYTES:
        return "attributes take more than 1024 bytes - at `$.attributes`"
    return None
