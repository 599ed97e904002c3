"""Reading back what no index took: dead letters of ours, and the failure objects of Amazon Data Firehose."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable

from msgspec import DecodeError, Struct, ValidationError, json

from gateway.locations.batch import DeviceEvents
from gateway.locations.document import Document
from gateway.locations.event import LocationEvent


class _Letter(Struct):
    account: str
    device: str
    event: LocationEvent


class _Line(Struct, rename={"raw": "rawData"}):
    """`rawData` stands in the lines under `AmazonOpenSearchService_failed/` in the backup bucket of a stream."""

    raw: str | None = None


_decode_line = json.Decoder(_Line).decode
_decode_letter = json.Decoder(_Letter).decode
_decode_document = json.Decoder(Document).decode


def read(lines: Iterable[bytes]) -> tuple[list[DeviceEvents], list[bytes]]:
    """The events of JSON lines, one group each, and the lines that hold none."""
    groups: list[DeviceEvents] = []
    others: list[bytes] = []
    for line in lines:
        text = line.strip()
        if not text:
            continue
        try:
            groups.append(_read(text))
        except (DecodeError, ValidationError, ValueError):
            others.append(text)
    return groups, others


def _read(line: bytes) -> DeviceEvents:
    raw = _decode_line(line).raw
    if raw is None:
        letter = _decode_letter(line)
        return DeviceEvents(letter.account, letter.device, (letter.event,))
    found = _decode_document(b64decode(raw, validate=True))
    lon, lat = found.location
    event = LocationEvent(
        found.id,
        found.time,
        lat,
        lon,
        found.accuracy,
        found.altitude,
        found.speed,
        found.heading,
        found.attributes,
    )
    return DeviceEvents(found.account, found.device, (event,))
