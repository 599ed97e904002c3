"""A CloudFormation template as the service would see it: conditions decided, parameters and mappings filled in.

What only AWS knows (names, ARNs, addresses of resources) stays as `<Name>` or `<Name.Attribute>`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "heiwa",
}
_NOTHING = object()


class _Loader(yaml.SafeLoader):
    """YAML with the short forms of intrinsic functions."""


def _intrinsic(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


@functools.cache
def read(path: Path) -> dict[str, Any]:
    """The template with the long forms of intrinsic functions. Shared: copy it before you change it."""
    found: dict[str, Any] = yaml.load(path.read_text("utf-8"), _Loader)
    return found


class Stack:
    """A template with the values of its parameters; those that are not given have their default or `<Name>`."""

    def __init__(self, template: Mapping[str, Any], **parameters: Any) -> None:
        self.template = template
        self._values = {
            name: parameters.get(name, one.get("Default", f"<{name}>"))
            for name, one in template.get("Parameters", {}).items()
        }

    def __getitem__(self, name: str) -> dict[str, Any]:
        """The properties of a resource. Raises KeyError where the conditions leave it out."""
        resource = self.template["Resources"][name]
        if not self._holds(resource.get("Condition", True)):
            raise KeyError(name)
        found: dict[str, Any] = self.evaluate(resource.get("Properties", {}))
        return found

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of all resources of a type, by name."""
        named = {name: one for name, one in self.template["Resources"].items() if one["Type"] == kind}
        return {name: self[name] for name, one in named.items() if self._holds(one.get("Condition", True))}

    def evaluate(self, value: Any) -> Any:
        """A part of the template with its functions carried out."""
        found = self._evaluate(value)
        return None if found is _NOTHING else found

    def _evaluate(self, value: Any) -> Any:
        if isinstance(value, list):
            return [one for one in map(self._evaluate, value) if one is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            name, argument = next(iter(value.items()))
            if name == "Ref":
                return self._reference(argument)
            if name.startswith("Fn::") or name == "Condition":
                return self._call(name.removeprefix("Fn::"), argument)
        done = {key: self._evaluate(one) for key, one in value.items()}
        return {key: one for key, one in done.items() if one is not _NOTHING}

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        return PSEUDO.get(name, self._values.get(name, f"<{name}>"))

    def _call(self, name: str, argument: Any) -> Any:
        match name:
            case "If":
                return self._evaluate(argument[1] if self._holds(argument[0]) else argument[2])
            case "GetAtt":
                return f"<{'.'.join(argument)}>"
            case "FindInMap":
                top, first, second = map(self._evaluate, argument)
                return self.template["Mappings"][top][first][second]
            case "Sub":
                return self._substitute(argument)
            case "Join":
                parts = self._evaluate(argument[1])
                # A parameter that is a list is given as its text.
                return parts if isinstance(parts, str) else argument[0].join(parts)
            case "Split":
                return self._evaluate(argument[1]).split(argument[0])
            case "ImportValue":
                return f"<imported {self._evaluate(argument)}>"
        return self._decide(name, argument)

    def _decide(self, name: str, argument: Any) -> bool:
        match name:
            case "Equals":
                one, other = map(self._evaluate, argument)
                return bool(one == other)
            case "Not":
                return not self._evaluate(argument[0])
            case "And":
                return all(map(self._evaluate, argument))
            case "Or":
                return any(map(self._evaluate, argument))
            case "Condition":
                return self._holds(argument)
        raise AssertionError(f"Fn::{name} is not known here")

    def _holds(self, condition: str | bool) -> bool:
        return (
            condition if isinstance(condition, bool) else bool(self._evaluate(self.template["Conditions"][condition]))
        )

    def _substitute(self, argument: Any) -> str:
        text, own = (argument, {}) if isinstance(argument, str) else argument
        values = {name: self._evaluate(value) for name, value in own.items()}

        def value(match: re.Match[str]) -> str:
            name = match[1]
            return str(values[name] if name in values else self._reference(name))

        return re.sub(r"\$\{([^!}]+)\}", value, text)
