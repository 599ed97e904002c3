"""Markdown, and JSON Schemas in words."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

Row = Sequence[object]


def table(head: Sequence[str], rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += ["| " + " | ".join(str(cell).replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def prose(text: str | None) -> str:
    """A docstring as one paragraph, None as JSON calls it."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    flat = [" ".join(paragraph.split()) for paragraph in paragraphs]
    told = [re.sub(r"(^|\. )None\b", r"\1Absent", paragraph) for paragraph in flat]
    return "\n\n".join(re.sub(r"\bNone\b", "absent", paragraph) for paragraph in told)


def as_json(value: object) -> str:
    return f"`{msgspec.json.encode(value).decode()}`"


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def allowed(field: dict[str, Any]) -> str:
    """Type and bounds of a JSON Schema, in words."""
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    words = {"string": "text", "boolean": "`true`, `false`"}
    parts = [words.get(field.get("type", ""), field.get("type", "any"))]
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    parts += [f"{sign} {_number(field[name])}" for name, sign in bounds.items() if name in field]
    if field.get("minLength"):
        parts.append(f"{field['minLength']}–{field['maxLength']} characters" if "maxLength" in field else "not empty")
    elif "maxLength" in field:
        parts.append(f"at most {field['maxLength']} characters")
    if "pattern" in field:
        parts.append(f"like `{field['pattern']}`")
    return ", ".join(parts)


def kind(field: dict[str, Any]) -> str:
    """A JSON Schema in one phrase."""
    if "$ref" in field:
        return str(field["$ref"])
    if "anyOf" in field:
        words = [kind(part) for part in field["anyOf"]]
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if field.get("type") == "array":
        least, most = field.get("minItems"), field.get("maxItems")
        span = f"{least}–{most} " if least and most else ""
        return f"list of {span}{kind(field.get('items', {}))}"
    if field.get("type") == "object":
        if "properties" in field:
            named = (f"`{name}`: {part.get('description') or kind(part)}" for name, part in field["properties"].items())
            return f"object with {'; '.join(named).rstrip('.')}"
        inner = field.get("additionalProperties")
        return f"object of {kind(inner)}" if isinstance(inner, dict) and inner else "object"
    return "boolean" if field.get("type") == "boolean" else allowed(field)
