"""What definitions of workflows look like."""

from __future__ import annotations

import json

from gateway.workflows.schema import schema as made


def schema() -> str:
    return json.dumps(made(), indent=2) + "\n"
