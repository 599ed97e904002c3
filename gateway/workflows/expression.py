"""Expressions of a definition: paths and comparisons, and nothing that computes.

A template is any text: `${path}` in it is replaced by what the path leads to. A template that is one path and nothing
else keeps the type of its value. A condition is `${path}`, or two operands and a comparison between them; an operand is
a `${path}` or a JSON literal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.decoding import standard_json

MAX_TEXT_CHARS = 4096
_MAX_RENDERED_CHARS = 65_536
NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_STEP = re.compile(rf"\.({NAME})|\[(0|[1-9][0-9]{{0,8}})\]")
_PATH = re.compile(rf"({NAME})((?:{_STEP.pattern})*)")
_OPEN = re.compile(r"\$\{([^{}]*)\}")
# An operator that stands between operands; inside a string or a path it is none.
_CONDITION = re.compile(
    r"""\s*(?P<left>\$\{[^{}]*\}|"(?:[^"\\]|\\.)*"|[^\s=!<>"]+)"""
    r"""\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<right>\$\{[^{}]*\}|"(?:[^"\\]|\\.)*"|[^\s=!<>"]+)\s*)?"""
)
_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


class ExpressionError(Exception):
    """An expression that cannot be read, or one that has no value for this run. The message says why."""


class Path(NamedTuple):
    """`root` is a name; each step is a field's name or an index."""

    root: str
    steps: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        return self.root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps)


class Literal(NamedTuple):
    """A value that is written down."""

    value: Any


class Condition(NamedTuple):
    """`operator` None: the left operand itself has to be true or false."""

    left: Path | Literal
    operator: str | None = None
    right: Path | Literal | None = None


# What a root and its steps lead to. Raises ExpressionError.
Scope = Callable[[Path], Any]


def parse_path(text: str) -> Path:
    """Raises ExpressionError naming what is wrong."""
    found = _PATH.fullmatch(text.strip())
    if found is None:
        raise ExpressionError(f"${{{text}}} is no path; a path is a name with .field and [number] behind it")
    steps = _STEP.findall(found[2] or "")
    return Path(found[1], tuple(name or int(index) for name, index in steps))


@lru_cache(4096)
def parse_template(text: str) -> tuple[str | Path, ...]:
    """Texts and paths in their order; a text without a path is itself. Raises ExpressionError."""
    if len(text) > MAX_TEXT_CHARS and "${" in text:
        raise ExpressionError(f"a text with paths has at most {MAX_TEXT_CHARS} characters")
    parts: list[str | Path] = []
    end = 0
    for found in _OPEN.finditer(text):
        parts += _text(text[end : found.start()])
        parts.append(parse_path(found[1]))
        end = found.end()
    return (*parts, *_text(text[end:]))


def _text(text: str) -> list[str | Path]:
    if "${" in text:
        raise ExpressionError("a ${ has no } of its own behind it; paths do not hold others")
    return [text] if text else []


@lru_cache(4096)
def parse_condition(text: str) -> Condition:
    """Raises ExpressionError."""
    if len(text) > MAX_TEXT_CHARS:
        raise ExpressionError(f"a condition has at most {MAX_TEXT_CHARS} characters")
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ExpressionError(
            f"{text!r} is no condition; one is ${{path}}, or two of ${{path}} and JSON values with one of == != < <= > "
            ">= between them"
        )
    if found["operator"] is None:
        return Condition(_operand(found["left"]))
    return Condition(_operand(found["left"]), found["operator"], _operand(found["right"]))


def _operand(text: str) -> Path | Literal:
    if text.startswith("${"):
        return parse_path(text[2:-1])
    try:
        value = standard_json(text)
    except ValueError as error:
        raise ExpressionError(
            f"{text} is neither a ${{path}} nor a JSON value; text stands in double quotes"
        ) from error
    if isinstance(value, list | dict):
        raise ExpressionError(f"{text}: only numbers, texts, true, false and null can be compared")
    return Literal(value)


def texts_in(value: Any) -> Iterator[tuple[str, str]]:
    """Every text of a plain JSON value, with where it stands (`.args.text`)."""
    if isinstance(value, str):
        yield "", value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from ((f".{name}{at}", text) for at, text in texts_in(inner))
    elif isinstance(value, Sequence):
        for index, inner in enumerate(value):
            yield from ((f"[{index}]{at}", text) for at, text in texts_in(inner))


def render(value: Any, scope: Scope) -> Any:
    """A plain JSON value with every path in its texts replaced. Raises ExpressionError."""
    if isinstance(value, str):
        return _render_text(value, scope)
    if isinstance(value, Mapping):
        return {name: render(inner, scope) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [render(inner, scope) for inner in value]
    return value


def _render_text(text: str, scope: Scope) -> Any:
    if "${" not in text:
        return text
    parts = parse_template(text)
    if len(parts) == 1 and isinstance(parts[0], Path):
        return scope(parts[0])
    rendered = "".join(part if isinstance(part, str) else _shown(part, scope(part)) for part in parts)
    if len(rendered) > _MAX_RENDERED_CHARS:
        raise ExpressionError(f"a text becomes longer than {_MAX_RENDERED_CHARS:,} characters")
    return rendered


def _shown(path: Path, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float) or value is None:
        return json.dumps(value)
    raise ExpressionError(f"${{{path}}} is a list or an object, and stands inside a text")


def as_text(place: str, value: Any) -> str:
    """A value where a text is wanted: numbers, true and false are written as JSON does. Raises ExpressionError that
    names the place."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise ExpressionError(f"{place} has to be a text, and is {_kind(value)}")
    if "\0" in value:
        raise ExpressionError(f"{place} holds U+0000, which no text may")
    return value


def holds(condition: Condition, scope: Scope) -> bool:
    """Whether it is true. Raises ExpressionError: what is not of one kind cannot be ordered."""
    left = _value(condition.left, scope)
    if condition.operator is None:
        if not isinstance(left, bool):
            raise ExpressionError(f"{_named(condition.left)} is {_kind(left)}, not true or false")
        return left
    assert condition.right is not None  # noqa: S101 - the parser sets both
    right = _value(condition.right, scope)
    if condition.operator in ("==", "!="):
        return _equal(left, right) == (condition.operator == "==")
    if not (_is_number(left) and _is_number(right)) and not (isinstance(left, str) and isinstance(right, str)):
        raise ExpressionError(f"{_kind(left)} and {_kind(right)} cannot be compared with {condition.operator}")
    return _COMPARED[condition.operator](left, right)


def _value(operand: Path | Literal, scope: Scope) -> Any:
    return operand.value if isinstance(operand, Literal) else scope(operand)


def _equal(left: Any, right: Any) -> bool:
    # To Python True is 1; to JSON it is not.
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(operand: Path | Literal) -> str:
    return f"${{{operand}}}" if isinstance(operand, Path) else json.dumps(operand.value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {int: "a number", float: "a number", str: "a text", list: "a list"}
    return kinds.get(type(value), "an object")


def follow(value: Any, path: Path) -> Any:
    """What the steps of `path` lead to within `value`. Raises ExpressionError naming the step that leads nowhere."""
    found = value
    for number, step in enumerate(path.steps):
        here = Path(path.root, path.steps[:number])
        if isinstance(step, int):
            if not isinstance(found, list):
                raise ExpressionError(f"${{{here}}} is {_kind(found)}, not a list")
            if step >= len(found):
                raise ExpressionError(f"${{{here}}} has {len(found)} items, and none at [{step}]")
            found = found[step]
        else:
            if not isinstance(found, dict):
                raise ExpressionError(f"${{{here}}} is {_kind(found)}, and has no field {step!r}")
            if step not in found:
                raise ExpressionError(f"${{{here}}} has no field {step!r}")
            found = found[step]
    return found
