"""A definition as it was written: plain values, each with its place, so that a mistake can be pointed at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.errors import HeiwaError

MAX_SOURCE_BYTES = 1_048_576
MAX_DEPTH = 32
# With every alias followed: ten aliases of ten aliases of … are a small file and a huge tree.
MAX_VALUES = 100_000
MAX_DIGITS = 30
_SHOWN_CHARS = 80
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")


class Place(NamedTuple):
    """A position in the text, both counted from 1; columns count characters."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class Mistake(NamedTuple):
    """What is wrong, at which path (`nodes.load.retry`, "": the whole), and where.

    `anchor` is where a value was written that an alias repeats at `place`; None: it stands at `place` itself.
    """

    place: Place
    path: str
    problem: str
    anchor: Place | None = None

    def __str__(self) -> str:
        also = f" (an alias of {self.anchor})" if self.anchor is not None else ""
        return f"{self.place}{also}: {f'{self.path}: ' if self.path else ''}{self.problem}"


class DefinitionError(HeiwaError):
    """A definition that cannot be stored, with every mistake that was found, in the order of the text."""

    exit_code = 2

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = sorted(mistakes)
        super().__init__("; ".join(map(str, self.mistakes)))


class Located(NamedTuple):
    """A value: text, number, true, false, None, a list of Located, or a mapping of names to Located.

    `keys` are the places of a mapping's names; `anchor` as in Mistake; `size` counts the values in it, and itself.
    """

    value: Any
    place: Place
    keys: Mapping[str, Place] = {}
    anchor: Place | None = None
    size: int = 1

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, Mapping):
            return {name: inner.plain() for name, inner in self.value.items()}
        if isinstance(self.value, Sequence) and not isinstance(self.value, str):
            return [inner.plain() for inner in self.value]
        return self.value

    def mistake(self, path: str, problem: str) -> Mistake:
        """A mistake in this value."""
        return Mistake(self.place, path, problem, self.anchor)

    def find(self, path: str, unknown: str = "") -> Located:
        """What a path as msgspec writes it (`$.retry.wait_s`, `$.command[0]`) leads to, or the nearest value above it.

        `unknown` is the name of a field that should not be there: then its own place.
        """
        found = self
        for name, index in _STEP.findall(path):
            inner = found.value
            if name and isinstance(inner, Mapping) and name in inner:
                found = inner[name]._replace(anchor=inner[name].anchor or found.anchor)
            elif index and isinstance(inner, Sequence) and int(index) < len(inner):
                found = inner[int(index)]._replace(anchor=inner[int(index)].anchor or found.anchor)
            else:
                break
        return found._replace(place=found.keys[unknown]) if unknown in found.keys else found


def mapping(value: dict[str, Located], place: Place, keys: dict[str, Place]) -> Located:
    """A mapping with the places of its names."""
    return Located(value, place, keys, None, 1 + sum(inner.size for inner in value.values()))


def sequence(value: list[Located], place: Place) -> Located:
    """A list."""
    return Located(value, place, {}, None, 1 + sum(inner.size for inner in value))


def check_text(text: str, place: Place) -> str:
    """The text itself. Raises DefinitionError for what neither a store nor a program can be given."""
    if "\0" in text:
        raise DefinitionError([Mistake(place, "", "a text holds the character U+0000")])
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DefinitionError([Mistake(place, "", "a text holds half of a surrogate pair")]) from error
    return text


def check_depth(place: Place, depth: int) -> None:
    """Raises DefinitionError for what is nested too deeply, before it is read."""
    if depth > MAX_DEPTH:
        raise DefinitionError([Mistake(place, "", f"is nested deeper than {MAX_DEPTH} levels")])


def bounded(value: Located, *, aliases: bool = False) -> Located:
    """The value itself. `aliases`: there are some. Raises DefinitionError when it holds too much."""
    if value.size > MAX_VALUES:
        followed = ", its aliases followed" if aliases else ""
        raise DefinitionError([value.mistake("", f"holds more than {MAX_VALUES:,} values{followed}")])
    return value


def cut(text: str) -> str:
    """What was written, as far as it helps to find it."""
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
