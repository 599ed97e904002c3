"""What a runner is asked for: the words of a node, with values where expressions stood. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.workflows.definition import WORKFLOW, Definition
from gateway.workflows.expression import Scope, as_text, render

# Any value may stand there; everything else that can hold an expression is a text.
_VALUES = {"http": ("body",), "device": ("args",)}


def asked_of(definition: Definition, name: str, scope: Callable[[], Scope]) -> Any:
    """Plain JSON values, of the node of this name; not to be changed.

    Raises ExpressionError for a path that leads nowhere, and where a value is no text.
    """
    written = definition.asked[name]
    if name in definition.fixed:
        return written
    found = render(written, scope())
    runner = definition.runners[name]
    if runner == WORKFLOW:
        return found
    free = _VALUES.get(runner, ())
    return {
        name: value if name in free else _fitted(f"run.{runner}.{name}", written[name], value)
        for name, value in found.items()
    }


def _fitted(place: str, written: Any, found: Any) -> Any:
    if isinstance(written, str):
        return as_text(place, found)
    if isinstance(written, list):
        return [_fitted(f"{place}[{number}]", *pair) for number, pair in enumerate(zip(written, found, strict=True))]
    if isinstance(written, dict):
        return {name: _fitted(f"{place}.{name}", written[name], inner) for name, inner in found.items()}
    return found
