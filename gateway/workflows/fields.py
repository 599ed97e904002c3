"""The fields of a definition as it was written. Every mistake is told: what is wrong is left out, and the rest read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.decoding import make_integer
from gateway.workflows.definition import RUNNERS
from gateway.workflows.source import DefinitionError, Located, Mistake, cut
from gateway.workflows.spec import CHOICES, IN_WORDS, Node, Spec

# Of one node, and of what is outside of nodes: each is found by reading the whole again.
MAX_MISTAKES = 20
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`")
_MISSING_FIELD = re.compile(r"Object missing required field `(.*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|(\[)")


class Decoded(NamedTuple):
    """`spec` is what could be read, without what is wrong (None: nothing); `damaged` are the nodes with mistakes."""

    spec: Spec | None
    mistakes: list[Mistake]
    damaged: frozenset[str]


def decode(source: Located) -> Decoded:
    """The fields of a definition. Raises DefinitionError for what is no mapping at all."""
    if not isinstance(source.value, Mapping):
        raise DefinitionError([source.mistake("", "a definition is a mapping with name and nodes")])
    mistakes: list[Mistake] = []
    read: dict[str, Node] = {}
    damaged: set[str] = set()
    plain = source.plain()
    nodes = source.value.get("nodes")
    if nodes is not None and isinstance(nodes.value, Mapping):
        for name, node in nodes.value.items():
            found, wrong = _convert(node, plain["nodes"][name], Node, f"nodes.{name}")
            if found is not None:
                read[name] = found
            if wrong:
                damaged.add(name)
                mistakes += wrong
            # So that what is wrong in it is told once, and with its name.
            plain["nodes"][name] = {}
    spec, wrong = _convert(source, plain, Spec, "")
    if spec is not None:
        damaged |= read.keys() - spec.nodes.keys()
        spec = msgspec.structs.replace(spec, nodes={name: node for name, node in read.items() if name in spec.nodes})
    return Decoded(spec, mistakes + wrong, frozenset(damaged))


class _Wrong(NamedTuple):
    """`at` is where, as msgspec writes paths; `name` a field there that should not be there, or be called otherwise,
    `missing` one that should."""

    at: str
    problem: str
    name: str = ""
    missing: str = ""

    @property
    def path(self) -> str:
        """What has to be left out."""
        return f"{self.at}.{self.name}" if self.name else self.at


def _convert(source: Located, plain: Any, kind: type, prefix: str) -> tuple[Any, list[Mistake]]:
    """What can be read of it (None: nothing), and what is wrong with the rest, which is taken out of `plain`."""
    mistakes: list[Mistake] = []
    gone: list[str] = []
    while len(mistakes) < MAX_MISTAKES:
        try:
            return msgspec.convert(plain, kind), mistakes
        except msgspec.ValidationError as error:
            if make_integer(plain, error):
                continue
            wrong = _wrong(str(error), plain)
        if not _follows(wrong, gone):
            unknown = wrong.name if _UNKNOWN_FIELD.fullmatch(wrong.problem) else ""
            shown = f"{prefix}{wrong.at[1:]}".removeprefix(".")
            if wrong.name and not unknown:
                shown += f".{cut(wrong.name)}"
            told = _told(wrong.problem, unknown, wrong.at)
            mistakes.append(source.find(wrong.at, wrong.name).mistake(shown, told))
        gone.append(wrong.path)
        if wrong.at == "$" and wrong.missing == "name":
            plain["name"] = "left-out"
        elif not _leave_out(plain, wrong):
            break
    return None, mistakes


def _follows(wrong: _Wrong, gone: list[str]) -> bool:
    """That something is missing where something was left out is no mistake of its own."""
    if wrong.missing:
        return f"{wrong.at}.{wrong.missing}" in gone
    return not wrong.name and any(path.startswith(f"{wrong.at}.") for path in gone)


def _wrong(error: str, plain: Any) -> _Wrong:
    problem, _, path = error.partition(" - at ")
    steps = re.findall(r"`(\$[^`]*)`", path)
    at = steps[-1] if steps else "$"
    if (unknown := _UNKNOWN_FIELD.fullmatch(problem)) is not None:
        return _Wrong(at, problem, unknown[1])
    if path.startswith("`key`"):
        return _Wrong(at, problem, _bad_name(problem, _follow(plain, at)[0]))
    missing = _MISSING_FIELD.fullmatch(problem)
    return _Wrong(at, problem, missing="" if missing is None else missing[1])


def _follow(plain: Any, at: str) -> tuple[Any, Any, str]:
    """What is at a path, or the whole list or mapping that it leads into; what that stands in, by which name."""
    found, within, by = plain, None, ""
    for name, inside in _STEP.findall(at):
        if inside or not isinstance(found, dict) or name not in found:
            break
        found, within, by = found[name], found, name
    return found, within, by


def _leave_out(plain: Any, wrong: _Wrong) -> bool:
    """Whether it could be."""
    found, within, by = _follow(plain, wrong.at)
    if wrong.name and isinstance(found, dict) and wrong.name in found:
        del found[wrong.name]
        return True
    if within is None:
        return False
    del within[by]
    return True


def _bad_name(problem: str, names: Mapping[str, Any]) -> str:
    """The name in a mapping that is meant: msgspec does not say which. One that is too long is the longest."""
    pattern = next((pattern for pattern in IN_WORDS if problem.endswith(repr(pattern))), None)
    wrong = [name for name in names if pattern is not None and not re.search(pattern, name)]
    return wrong[0] if wrong else max(names, key=len)


def _told(problem: str, unknown: str, path: str) -> str:
    if unknown and path == "$.run":
        return f"there is no runner {cut(unknown)!r}; known are {', '.join(RUNNERS)}"
    if unknown:
        return f"there is no field {cut(unknown)!r} here"
    if problem.startswith("Invalid enum value"):
        return f"must be one of {', '.join(CHOICES[path.rpartition('.')[2]])}"
    for pattern, words in IN_WORDS.items():
        if problem.endswith(repr(pattern)):
            return f"must be made of {words}"
    return problem[0].lower() + problem[1:]
