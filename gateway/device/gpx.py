"""Read the track points of a GPX file (1.0 or 1.1), as recorders really write them.

Only `trkpt` inside `trk` counts; waypoints, routes and extensions are skipped. A document type declaration is refused:
without one there are no entities of the document's own, so nothing can expand or reach for other files. Prefixes are
resolved here and not by expat, which refuses a whole file for one undeclared prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from xml.parsers import expat

from gateway.device.gpx_encoding import EncodingError, as_utf8

NAMESPACES = ("http://www.topografix.com/GPX/1/0", "http://www.topografix.com/GPX/1/1", "")
MAX_TEXT_LENGTH = 100
MAX_DEPTH = 100
# How many of the points that were left out are named.
MAX_NAMED = 3
# xsd:decimal and xsd:double; Python's float() would also take 1_0 and the digits of other scripts.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[t ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,30}))?)?\s*(?:z|([+-])(\d\d):?(\d\d))?"
    r"(?:\[[^]]{1,60}\])*",  # the name of the zone (RFC 9557), as Java writes it
    re.ASCII | re.IGNORECASE,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class GpxError(ValueError):
    """The text is not a GPX file that can be used; the message says where and why."""


class Fix(NamedTuple):
    """One recorded point: `time_ms` since the Unix epoch (negative before 1970; None: not recorded or unreadable)."""

    lat: float
    lon: float
    altitude_m: float | None
    time_ms: int | None


class Recording(NamedTuple):
    """The points of a file in its order, and how many were left out; `why` names the first few of those by line."""

    fixes: list[Fix]
    left_out: int
    why: list[str]


def parse(payload: bytes) -> Recording:
    """All track points of all tracks and segments; empty segments vanish.

    A point whose position is missing, unreadable or off the globe is left out. Raises GpxError for what is no GPX.
    """
    # Some programs write blank lines before the declaration, which XML does not allow.
    document = payload.lstrip(b" \t\r\n")
    lines_before = payload.count(b"\n", 0, len(payload) - len(document))
    reader = _Reader(lines_before)
    try:
        reader.parser.Parse(as_utf8(document, lines_before), True)
    except expat.ExpatError as error:
        line = lines_before + error.lineno
        raise GpxError(f"line {line}: not well-formed XML: {expat.ErrorString(error.code)}") from error
    except EncodingError as error:
        raise GpxError(str(error)) from error
    if not reader.seen_root:
        raise GpxError("not a GPX file")
    return Recording(reader.fixes, reader.left_out, reader.why)


class _Reader:
    """Collects fixes from expat's callbacks. `lines_before`: of the file, that expat does not see."""

    def __init__(self, lines_before: int) -> None:
        self._lines_before = lines_before
        self.fixes: list[Fix] = []
        self.left_out = 0
        self.why: list[str] = []
        self.seen_root = False
        self._path: list[str] = []
        self._scopes: list[Mapping[str, str]] = [{"xml": "http://www.w3.org/XML/1998/namespace"}]
        self._position: tuple[float, float] | None = None
        self._values: dict[str, str] = {}
        self._reading = ""  # the child of a point whose text counts
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _refuse(self, *_: object) -> None:
        raise GpxError("a document type declaration is not accepted")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        scope = _scope(self._scopes[-1], attributes)
        namespace, tag = _resolve(name, scope)
        if not self._path:
            _check_root(name, namespace, tag)
            self.seen_root = True
        if len(self._path) == MAX_DEPTH:
            raise GpxError(f"line {self._line}: more than {MAX_DEPTH} elements within each other")
        self._scopes.append(scope)
        self._path.append(tag if namespace in NAMESPACES else "")
        if self._path[-1] == "trkpt" and self._path[:2] == ["gpx", "trk"]:
            self._point(attributes)
        elif len(self._path) > 1 and self._path[-2] == "trkpt" and self._path[-1] not in self._values:
            # The first of two counts, as the schema knows one only.
            self._reading = self._path[-1]

    def _point(self, attributes: dict[str, str]) -> None:
        self._values = {}
        self._position, problem = _position(attributes)
        if problem:
            self.left_out += 1
            if len(self.why) < MAX_NAMED:
                self.why.append(f"line {self._line}: {problem}")

    @property
    def _line(self) -> int:
        return self._lines_before + self.parser.CurrentLineNumber

    def _text(self, text: str) -> None:
        if self._reading and self._path[-1] == self._reading and self._path[-2] == "trkpt":
            so_far = self._values.get(self._reading, "")
            self._values[self._reading] = (so_far + text).lstrip()[:MAX_TEXT_LENGTH]

    def _end(self, name: str) -> None:
        self._scopes.pop()
        ended = self._path.pop()
        if self._path and self._path[-1] == "trkpt":
            self._reading = ""
        if ended == "trkpt" and self._position is not None:
            lat, lon = self._position
            altitude_m = _number(self._values.get("ele", ""))
            self.fixes.append(Fix(lat, lon, altitude_m, time_ms(self._values.get("time", ""))))
            self._position = None


def _scope(outer: Mapping[str, str], attributes: dict[str, str]) -> Mapping[str, str]:
    """The namespaces by prefix ("" for the default) within an element (Namespaces in XML 1.0, 6)."""
    own = {
        name[len("xmlns:") :]: value
        for name, value in attributes.items()
        if name == "xmlns" or name.startswith("xmlns:")
    }
    return {**outer, **own} if own else outer


def _resolve(name: str, scope: Mapping[str, str]) -> tuple[str | None, str]:
    """Namespace and tag of an element; a namespace of None: its prefix was never declared."""
    prefix, _, tag = name.rpartition(":")
    return scope.get(prefix, None if prefix else ""), tag


def _check_root(name: str, namespace: str | None, tag: str) -> None:
    if namespace is None:
        raise GpxError(f"the root element is {name[:MAX_TEXT_LENGTH]}, whose prefix is not declared")
    if tag != "gpx":
        raise GpxError(f"the root element is {name[:MAX_TEXT_LENGTH]}, not gpx")
    if namespace not in NAMESPACES:
        raise GpxError(
            f"the root element is gpx of the namespace {namespace[:MAX_TEXT_LENGTH]}, not of "
            f"{NAMESPACES[0]} or {NAMESPACES[1]}"
        )


def _position(attributes: dict[str, str]) -> tuple[tuple[float, float] | None, str]:
    """Latitude and longitude, or None and what is wrong with them."""
    found = []
    for name, maximum in (("lat", 90), ("lon", 180)):
        text = attributes.get(name)
        value = None if text is None else _number(text)
        if text is None:
            return None, f"{name} is missing"
        if value is None:
            return None, f"{name} is {text[:20]!r}, not a number"
        if not -maximum <= value <= maximum:
            return None, f"{name} is {text[:20]!r}, not within ±{maximum}"
        found.append(value)
    return (found[0], found[1]), ""


def _number(text: str) -> float | None:
    text = text.strip()
    if _NUMBER.fullmatch(text) is None:
        return None
    value = float(text)
    return value if abs(value) < 1e9 else None


def time_ms(text: str) -> int | None:
    """An `xsd:dateTime` as ms since the Unix epoch, rounded down; one without a zone is UTC. None: unreadable.

    24:00:00 is the first moment of the next day (XML Schema 2, 3.2.7.1), 23:59:60 a leap second that counts as it.
    Recorders write more digits than a microsecond has, small letters, and no seconds.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(group or 0) for group in match.groups()[:6])
    if minute > 59 or second > 60 or hour > 24 or (hour == 24 and (minute or second or int(match[7] or 0))):
        return None
    if int(match[9] or 0) > 23 or int(match[10] or 0) > 59:
        return None
    passed = timedelta(hours=hour, minutes=minute, seconds=second, milliseconds=int(f"{match[7] or '0':0<3}"[:3]))
    offset = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
    try:
        day_began = datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None
    return (day_began - _EPOCH + passed + (offset if match[8] == "-" else -offset)) // _MILLISECOND
