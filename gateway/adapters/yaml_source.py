"""YAML with the place of every value, by PyYAML's parser; what its two versions read differently is refused.

YAML 1.1, which most parsers follow, reads `no` as false, `12:30` as 750 and `0o17` as text; YAML 1.2 reads all of them
otherwise. A definition that means one thing here and another in the next tool is worse than an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

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

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FRACTION = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]+([eE][-+][0-9]+)?")
# Plain text that is a truth value, a number, a time or a merge to one version of YAML.
_AMBIGUOUS = re.compile(
    r"[yn]|yes|no|on|off|<<|=|[-+]?\.(inf|nan)"
    r"|[-+]?(0[box][0-9a-f_]+|[0-9][0-9_]*(\.[0-9_]*)?|\.[0-9_]+)(e[-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([tT \t].*)?",
    re.IGNORECASE,
)


def read_yaml(text: str) -> Located:
    """The one document of `text`. Raises DefinitionError."""
    try:
        return _Reader(yaml.parse(text, Loader=_LOADER)).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(mark) if mark is not None else Place(1, 1)
        raise DefinitionError([Mistake(place, "", f"not YAML: {error.problem or error.context}")]) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise DefinitionError([Mistake(place, "", f"not YAML: {error.reason}")]) from error


class _Reader:
    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, Located] = {}
        self._aliases = False

    def read(self) -> Located:
        next(self._events)
        document = next(self._events)
        if isinstance(document, yaml.StreamEndEvent):
            raise DefinitionError([Mistake(Place(1, 1), "", "there is nothing in it")])
        value = self._value(next(self._events), 1)
        next(self._events)
        more = next(self._events)
        if not isinstance(more, yaml.StreamEndEvent):
            _refuse(more, "a second document begins; a definition is one")
        return value

    def _value(self, event: Any, depth: int) -> Located:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        check_depth(_place(event.start_mark), depth)
        if event.tag is not None and not (isinstance(event, yaml.ScalarEvent) and event.tag in _TEXT_TAGS):
            _refuse(event, f"the tag {cut(event.tag)} is not used here")
        if isinstance(event, yaml.ScalarEvent):
            value = Located(_scalar(event), _place(event.start_mark))
        elif isinstance(event, yaml.MappingStartEvent):
            value = bounded(self._mapping(event, depth), aliases=self._aliases)
        else:
            value = bounded(self._sequence(event, depth), aliases=self._aliases)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _alias(self, event: yaml.AliasEvent) -> Located:
        found = self._anchors.get(event.anchor or "")
        if found is None:
            _refuse(
                event, f"*{event.anchor} stands before the end of what &{event.anchor} names, or nothing is named so"
            )
        self._aliases = True
        return found._replace(place=_place(event.start_mark), anchor=found.anchor or found.place)

    def _mapping(self, start: yaml.MappingStartEvent, depth: int) -> Located:
        found: dict[str, Located] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                _refuse(event, "a name must be plain text")
            if event.value == "<<" and not event.style and event.tag is None:
                _refuse(event, "merge keys (<<) are not supported; write the fields out, or repeat a whole value by *")
            name = _scalar(event)
            if not isinstance(name, str):
                _refuse(event, f"a name must be text; put it in quotes: {cut(event.value)!r}")
            if name in found:
                _refuse(event, f"the name {cut(name)!r} is given twice, before at {keys[name]}")
            keys[name] = _place(event.start_mark)
            found[name] = self._value(next(self._events), depth + 1)
        return mapping(found, _place(start.start_mark), keys)

    def _sequence(self, start: yaml.SequenceStartEvent, depth: int) -> Located:
        found = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._value(event, depth + 1))
        return sequence(found, _place(start.start_mark))


def _scalar(event: yaml.ScalarEvent) -> Any:
    text = check_text(event.value, _place(event.start_mark))
    if event.style or event.tag is not None:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        if len(text) > MAX_DIGITS:
            _refuse(event, f"has too many digits; at most {MAX_DIGITS} are possible")
        return int(text)
    if _FRACTION.fullmatch(text) and abs(float(text)) != float("inf"):
        return float(text)
    if _AMBIGUOUS.fullmatch(text):
        _refuse(event, f"{cut(text)} is read differently by YAML 1.1 and 1.2; write text in quotes, numbers in decimal")
    return text


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _refuse(event: Any, problem: str) -> NoReturn:
    raise DefinitionError([Mistake(_place(event.start_mark), "", problem)])
