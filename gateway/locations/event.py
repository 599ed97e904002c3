"""A location event: the record on the wire, and what makes one acceptable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct, json

MAX_ID_LENGTH = 64
MAX_ATTRIBUTES_BYTES = 1024
DAY_MS = 24 * 3600 * 1000
OLDEST_MS = 30 * DAY_MS
NEWEST_MS = DAY_MS
INVALID = "invalid"

# What is stored may hold whole numbers of any length: older versions took them.
StoredScalar = str | int | float | bool | None
Scalar = str | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float | bool | None

_encode = json.Encoder().encode


class LocationEvent(Struct, frozen=True, omit_defaults=True, gc=False):
    """One position of one device, in WGS 84.

    `time` is in ms since the Unix epoch, `lat`, `lon` and `heading` in degrees, `accuracy` and `altitude` in metres,
    `speed` in metres a second. None means the device did not say. The type of every field is checked while decoding.
    """

    id: Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
    time: Annotated[int, Meta(ge=-(2**53), le=2**53)]
    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    accuracy: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    altitude: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    speed: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    heading: Annotated[float, Meta(ge=-360, le=360)] | None = None
    attributes: dict[str, Scalar] | None = None


class Problem(NamedTuple):
    """Why an event is not taken: a text with the path of the field, and a code. `retry_after_ms` None: for good."""

    text: str
    code: str = INVALID
    retry_after_ms: int | None = None


# What is wrong with the events of one message, by position; the number is the wall clock in ms.
Judge = Callable[[Sequence[LocationEvent], int], Mapping[int, Problem]]


def judge_alone(events: Sequence[LocationEvent], now_ms: int) -> Mapping[int, Problem]:
    """The judge who knows only the message itself."""
    return {
        position: Problem(text) for position, event in enumerate(events) if (text := check(event, now_ms)) is not None
    }


def check(event: LocationEvent, now_ms: int, max_age_ms: int = OLDEST_MS) -> str | None:
    """What is wrong with a decoded event besides types and ranges, with the path of the field; None if nothing."""
    return check_time(event.time, now_ms, max_age_ms) or check_form(event)


def check_time(time_ms: int, now_ms: int, max_age_ms: int = OLDEST_MS) -> str | None:
    """What is wrong with the time of an event; `now_ms` is the wall clock.

    A device with a broken clock must not make indices of its own: the time has to lie between `max_age_ms` ago and 1
    day ahead, both inclusive.
    """
    age_ms = now_ms - time_ms
    if age_ms > max_age_ms:
        days = max_age_ms // DAY_MS
        return f"time is more than {days} day{'s' if days > 1 else ''} ago - at `$.time`"
    if age_ms < -NEWEST_MS:
        return "time is more than 1 day ahead - at `$.time`"
    return None


def check_form(event: LocationEvent) -> str | None:
    """What is wrong with the rest."""
    name = event.id
    if not (name.isascii() and name.isprintable()) or not 0 < len(name) <= MAX_ID_LENGTH:
        return "id is not 1 to 64 printable ASCII characters - at `$.id`"
    if event.attributes is not None and len(_encode(event.attributes)) > MAX_ATTRIBUTES_BYTES:
        return "attributes take more than 1024 bytes - at `$.attributes`"
    return None
