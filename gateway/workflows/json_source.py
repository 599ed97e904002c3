"""JSON (RFC 8259) with the place of every value. What it means is left to the standard library."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from json import JSONDecodeError

from gateway.workflows.source import (
    MAX_DIGITS,
    DefinitionError,
    Located,
    Mistake,
    Place,
    bounded,
    check_depth,
    check_text,
    cut,
    mapping,
    sequence,
)

_SPACE = re.compile(r"[ \t\n\r]*")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"has too many digits; at most {MAX_DIGITS} are possible")
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("is larger than a number can be")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_fraction, parse_constant=_no_number)


def read_json(text: str) -> Located:
    """The one value of `text`. Raises DefinitionError."""
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]

    def read(self) -> Located:
        if self._skip(0) == len(self._text):
            raise self._wrong(0, "there is nothing in it")
        try:
            value, end = self._value(self._skip(0), 1)
        except JSONDecodeError as error:
            raise self._wrong(error.pos, f"not JSON: {error.msg}") from error
        if self._skip(end) != len(self._text):
            raise self._wrong(self._skip(end), "not JSON: there is more behind the value")
        return value

    def _value(self, at: int, depth: int) -> tuple[Located, int]:
        place, first = self._place(at), self._text[at : at + 1]
        check_depth(place, depth)
        if first in ("{", "["):
            value, end = (self._mapping if first == "{" else self._sequence)(at, place, depth)
            return bounded(value), end
        try:
            plain, end = _DECODER.raw_decode(self._text, at)
        except JSONDecodeError:
            raise
        except ValueError as error:
            raise self._wrong(at, str(error)) from error
        return Located(check_text(plain, place) if isinstance(plain, str) else plain, place), end

    def _mapping(self, at: int, place: Place, depth: int) -> tuple[Located, int]:
        found: dict[str, Located] = {}
        keys: dict[str, Place] = {}
        at = self._skip(at + 1)
        while self._text[at : at + 1] != "}":
            if found:
                at = self._skip(self._after(at, ","))
            if self._text[at : at + 1] != '"':
                raise self._wrong(at, "not JSON: a name in double quotes is expected")
            name, end = _DECODER.raw_decode(self._text, at)
            check_text(name, self._place(at))
            if name in found:
                raise self._wrong(at, f"the name {cut(name)!r} is given twice, before at {keys[name]}")
            keys[name] = self._place(at)
            found[name], at = self._value(self._skip(self._after(self._skip(end), ":")), depth + 1)
            at = self._skip(at)
        return mapping(found, place, keys), at + 1

    def _sequence(self, at: int, place: Place, depth: int) -> tuple[Located, int]:
        found: list[Located] = []
        at = self._skip(at + 1)
        while self._text[at : at + 1] != "]":
            if found:
                at = self._skip(self._after(at, ","))
            value, at = self._value(at, depth + 1)
            found.append(value)
            at = self._skip(at)
        return sequence(found, place), at + 1

    def _after(self, at: int, sign: str) -> int:
        if self._text[at : at + 1] != sign:
            raise self._wrong(at, f"not JSON: {sign!r} is expected")
        return at + 1

    def _skip(self, at: int) -> int:
        space = _SPACE.match(self._text, at)
        return space.end() if space is not None else at

    def _place(self, at: int) -> Place:
        line = bisect_right(self._lines, at)
        return Place(line, at - self._lines[line - 1] + 1)

    def _wrong(self, at: int, problem: str) -> DefinitionError:
        return DefinitionError([Mistake(self._place(at), "", problem)])
