"""The JSON Schema of definitions, for editors and for programs that write them."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.json_schema import in_json_words
from gateway.workflows.definition import RUNNERS
from gateway.workflows.spec import Spec


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12. What it cannot say is checked when a definition is put: names, circles, expressions."""
    found = in_json_words(msgspec.json.schema(Spec))
    parts = found["$defs"]
    _exactly_one_of(parts["Node"], ("run", "workflow"))
    _exactly_one_of(parts["Run"], RUNNERS)
    parts["Node"]["not"] = {
        "required": ["for_each", "repeat"],
        "properties": {"for_each": {"type": "object"}, "repeat": {"type": "object"}},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A workflow of Heiwa", **found}


def _exactly_one_of(part: dict[str, Any], names: tuple[str, ...]) -> None:
    part["oneOf"] = [{"required": [name]} for name in names]
