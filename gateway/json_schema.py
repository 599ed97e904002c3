"""JSON Schemas that msgspec makes of records, for people who do not read Python."""

from __future__ import annotations

import re
from inspect import cleandoc
from typing import Any


def in_json_words(node: Any) -> Any:
    """A schema whose descriptions are docstrings: without their indentation, and with null where those say None.

    An array that may hold anything says so.
    """
    if isinstance(node, dict):
        anything: dict[str, Any] = (
            {"items": {}} if node.get("type") == "array" and not {"items", "prefixItems"} & node.keys() else {}
        )
        return anything | {
            key: re.sub(r"\bNone\b", "null", cleandoc(value))
            if key == "description" and isinstance(value, str)
            else in_json_words(value)
            for key, value in node.items()
        }
    return [in_json_words(item) for item in node] if isinstance(node, list | tuple) else node
