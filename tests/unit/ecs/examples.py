"""All templates in all ways of deploying them, each with its rules.

`test_templates.py` holds the templates to them; `test_mutations.py` breaks the templates, and somebody has to notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.support.cloudformation import Stack, read
from tests.unit.ecs.rules.registry import (
    DATA_RULES,
    MANAGER_RULES,
    SERVICE_RULES,
    Rule,
)
from tests.unit.ecs.stacks import (
    DATA,
    EXAMPLES,
    MANAGER_PARAMETERS,
    MANAGERS,
    PARAMETERS,
    SERVICE,
    WORKFLOWS,
)


class Example(NamedTuple):
    """A template with parameters, and its rules."""

    name: str
    stack: Stack
    rules: Mapping[str, Rule]


def examples(
    service: dict[str, Any] | None = None, data: dict[str, Any] | None = None, managers: dict[str, Any] | None = None
) -> Iterator[Example]:
    """All templates, or what stands for them, in all ways of deploying them."""
    template = service or read(SERVICE)
    for name, parameters in EXAMPLES.items():
        yield Example(f"service, {name}", Stack(template, **PARAMETERS, **parameters), SERVICE_RULES)
    yield Example("data", Stack(data or read(DATA)), DATA_RULES)
    template = managers or read(WORKFLOWS)
    for name, parameters in MANAGERS.items():
        yield Example(f"workflows, {name}", Stack(template, **MANAGER_PARAMETERS, **parameters), MANAGER_RULES)
