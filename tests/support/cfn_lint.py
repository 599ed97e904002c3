"""cfn-lint on a template, in this process: starting the program takes a second each time."""

from __future__ import annotations

from cfnlint.api import lint
from cfnlint.config import ManualArgs


def problems(text: str) -> list[str]:
    """What it finds, as `E1234 message`."""
    # Its rules are for where the templates are to be deployed; the services are in all regions of that kind.
    return [f"{match.rule.id} {match.message}" for match in lint(text, config=ManualArgs(regions=["eu-west-1"]))]
