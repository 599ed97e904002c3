"""Which rules there are, by template."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.cloudformation import Stack

Rule = Callable[[Stack], None]
SERVICE_RULES: dict[str, Rule] = {}
DATA_RULES: dict[str, Rule] = {}
MANAGER_RULES: dict[str, Rule] = {}


def service_rule(rule: Rule) -> Rule:
    """Of ecs/service.yaml."""
    SERVICE_RULES[rule.__name__] = rule
    return rule


def data_rule(rule: Rule) -> Rule:
    """Of ecs/data.yaml."""
    DATA_RULES[rule.__name__] = rule
    return rule


def manager_rule(rule: Rule) -> Rule:
    """Of ecs/workflows.yaml."""
    MANAGER_RULES[rule.__name__] = rule
    return rule
