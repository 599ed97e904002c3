"""The OpenAPI document of one listener, as a tester of APIs wants it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from gateway.api.application import all_routes
from gateway.api.openapi import document


def write_document(path: Path, listener: str) -> None:
    """The operations that `listener` serves, into a file."""
    made: dict[str, Any] = json.loads(msgspec.json.encode(document([route.operation for route in all_routes()], "1")))
    made.pop("servers")
    for item in made["paths"].values():
        for method, operation in list(item.items()):
            operation.pop("servers")
            if listener not in operation["x-listener"]:
                del item[method]
    made["paths"] = {name: item for name, item in made["paths"].items() if item}
    path.write_text(json.dumps(made))
