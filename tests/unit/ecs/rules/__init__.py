"""What the templates of ecs/ must say, one function a rule. Each raises AssertionError when a template does not.

To import any of them is to have all of them in the registry.
"""

from tests.unit.ecs.rules import connection, data, managers, roles, service, task

__all__ = ["connection", "data", "managers", "roles", "service", "task"]
