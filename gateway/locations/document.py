"""A location event as a document of a search index: its identity, its index and its bytes.

Both ways to the index, direct and by Firehose, end in one document, for both use the identity made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256

from msgspec import Struct, field, json

from gateway.locations.batch import DeviceEvents
from gateway.locations.event import DAY_MS, LocationEvent, StoredScalar

# OpenSearch, "Index document": `_id` has at most 512 bytes; one that is longer fails the whole bulk request.
MAX_ID_BYTES = 512
_ESCAPED = re.compile(r"[%:\x00-\x1f\x7f]")
_encoder = json.Encoder()


class Document(Struct, frozen=True, omit_defaults=True, gc=False):
    """What is stored; the fields that `LocationEvent` has mean the same. `location` is (longitude, latitude)."""

    account: str
    device: str
    id: str
    time: int
    location: tuple[float, float]
    accuracy: float | None = None
    altitude: float | None = None
    speed: float | None = None
    heading: float | None = None
    attributes: dict[str, StoredScalar] | None = None


class _Create(Struct, gc=False):
    index: str = field(name="_index")
    id: str = field(name="_id")


class _Replace(Struct, gc=False):
    """Only a version that is not older replaces what is there."""

    index: str = field(name="_index")
    id: str = field(name="_id")
    version: int
    version_type: str = "external_gte"


class Action(Struct, gc=False, omit_defaults=True):
    """The action line of a bulk request: one of both."""

    create: _Create | None = None
    index: _Replace | None = None


Lines = tuple[Action, Document]


def _escape(part: str) -> str:
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", part)


@lru_cache(maxsize=65536)
def device_id(account: str, device: str) -> str:
    """The identity of a device, `account:device`, unambiguous: `%`, `:` and control characters are escaped."""
    return _short(f"{_escape(account)}:{_escape(device)}")


def document_id(account: str, device: str, event_id: str) -> str:
    """The identity of an event, `account:device:id`, at most 512 bytes."""
    found = f"{_escape(account)}:{_escape(device)}:{_escape(event_id)}"
    return _short(found)


def _short(found: str) -> str:
    """Itself, or its hash when it is too long; `%#` begins nothing else, for a digit follows an escape."""
    encoded = found.encode(errors="surrogatepass")
    return found if len(encoded) <= MAX_ID_BYTES else f"%#{sha256(encoded).hexdigest()}"


def index_of(prefix: str, time_ms: int) -> str:
    """The index of an event by its own time: one a day (UTC), `locations-2026.11.29`."""
    return _index_of_day(prefix, time_ms // DAY_MS)


@lru_cache(maxsize=128)
def _index_of_day(prefix: str, day: int) -> str:
    return f"{prefix}-{datetime.fromtimestamp(day * (DAY_MS // 1000), UTC):%Y.%m.%d}"


def document(group: DeviceEvents, event: LocationEvent) -> Document:
    """The document of one event of a group."""
    return Document(
        group.account,
        group.device,
        event.id,
        event.time,
        (event.lon, event.lat),
        event.accuracy,
        event.altitude,
        event.speed,
        event.heading,
        event.attributes,
    )


def bulk_lines(prefix: str, groups: Sequence[DeviceEvents]) -> list[Lines]:
    """For each event the two lines that create its document."""
    lines: list[Lines] = []
    for group in groups:
        account, device = group.account, group.device
        # One escape a device, not one an event.
        start = f"{_escape(account)}:{_escape(device)}:"
        room = MAX_ID_BYTES - len(start.encode(errors="surrogatepass"))
        for event in group.events:
            name = event.id
            if ":" in name or "%" in name or not name.isprintable():
                name = _escape(name)
            name = start + name if name.isascii() and len(name) <= room else _short(start + name)
            lines.append((Action(_Create(index_of(prefix, event.time), name)), document(group, event)))
    return lines


def latest_lines(index: str, account: str, device: str, event: LocationEvent) -> Lines:
    """The two lines that make this the latest position of its device, unless the one there is newer."""
    replace = _Replace(index, device_id(account, device), max(0, event.time))
    return Action(index=replace), document(DeviceEvents(account, device, ()), event)


def encode_lines(lines: Sequence[Lines]) -> bytes:
    """The body of a bulk request."""
    return _encoder.encode_lines([part for pair in lines for part in pair])


def stream_records(groups: Sequence[DeviceEvents]) -> Iterator[bytes]:
    """For each event its record on the way by Firehose, one JSON object: the document and, in front, its identity.

    Firehose sends no `_id` of ours; the overflow index's pipeline takes it out of the record.
    """
    encode = _encoder.encode
    for group in groups:
        for event in group.events:
            name = encode(document_id(group.account, group.device, event.id))
            yield b'{"document_id":%b,%b' % (name, encode(document(group, event))[1:])
