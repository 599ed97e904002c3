"""Read the track points of a GPX file (1.0 or 1.1), as recorders really write them.

Only `trkpt` inside `trk` counts; waypoints, routes and extensions are skipped. A document type declaration is refused:
without one there are no entities of the document's own, so nothing can expand or reach for other files.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple
from xml.parsers import expat

NAMESPACES = ("http://www.topografix.com/GPX/1/0", "http://www.topografix.com/GPX/1/1", "")
MAX_TEXT_LENGTH = 100
_FRACTION = re.compile(r"\.(\d+)")


class GpxError(ValueError):
    """The text is not a GPX file that can be used; the message says where and why."""


class Fix(NamedTuple):
    """One recorded point: `time_ms` since the Unix epoch (negative before 1970; None: not recorded or unreadable)."""

    lat: float
    lon: float
    altitude_m: float | None
    time_ms: int | None


def parse(payload: bytes) -> list[Fix]:
    """All track points of all tracks and segments, in the order of the file; empty segments vanish.

    A point whose position is missing or off the globe is left out. Raises GpxError for what is no GPX at all.
    """
    reader = _Reader()
    try:
        reader.parser.Parse(payload, True)
    except expat.ExpatError as error:
        raise GpxError(f"not well-formed XML: {error}") from error
    if not reader.seen_root:
        raise GpxError("not a GPX file")
    return reader.fixes


class _Reader:
    """Collects fixes from expat's callbacks."""

    def __init__(self) -> None:
        self.fixes: list[Fix] = []
        self.seen_root = False
        self._path: list[str] = []
        self._position: tuple[float, float] | None = None
        self._values: dict[str, str] = {}
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _refuse(self, *_: object) -> None:
        raise GpxError("a document type declaration is not accepted")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = _local(name)
        if not self._path:
            if tag != "gpx":
                raise GpxError(f"the root element is {name.rpartition(' ')[2]}, not gpx")
            self.seen_root = True
        self._path.append(tag)
        if tag == "trkpt" and self._path[:2] == ["gpx", "trk"]:
            self._position = _position(attributes)
            self._values = {}

    def _text(self, text: str) -> None:
        if len(self._path) >= 2 and self._path[-2] == "trkpt":
            so_far = self._values.get(self._path[-1], "")
            self._values[self._path[-1]] = (so_far + text)[:MAX_TEXT_LENGTH]

    def _end(self, name: str) -> None:
        self._path.pop()
        if _local(name) == "trkpt" and self._position is not None:
            lat, lon = self._position
            altitude_m = _number(self._values.get("ele", ""))
            self.fixes.append(Fix(lat, lon, altitude_m, time_ms(self._values.get("time", ""))))
            self._position = None


def _local(name: str) -> str:
    """The tag of a GPX element; "" for an element of somebody else's namespace."""
    namespace, _, tag = name.rpartition(" ")
    return tag if namespace in NAMESPACES else ""


def _position(attributes: dict[str, str]) -> tuple[float, float] | None:
    lat, lon = _number(attributes.get("lat", "")), _number(attributes.get("lon", ""))
    if lat is None or lon is None or not (-90 <= lat <= 90 and -180 <= lon <= 180):
        return None
    return lat, lon


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None  # also drops nan and infinities


def time_ms(text: str) -> int | None:
    """An `xsd:dateTime` as ms since the Unix epoch, rounded down; one without a zone is UTC. None: unreadable."""
    # Recorders write more digits than a microsecond has ("52.2073437Z").
    text = _FRACTION.sub(lambda match: f".{match[1][:6]:0<6}", text.strip())
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
