"""A definition that was checked, and what follows from it: order, successors, which node is what."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from gateway.workflows.source import DefinitionError, Located, Mistake
from gateway.workflows.spec import Node, Run, Spec

RUNNERS = Run.__struct_fields__
# What runs a nested workflow is no runner: the store itself begins it.
WORKFLOW = "workflow"
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`")


class Definition(NamedTuple):
    """`order` has every node behind those it needs; `successors` are those that need it."""

    spec: Spec
    order: tuple[str, ...]
    successors: Mapping[str, tuple[str, ...]]

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes by their names."""
        return self.spec.nodes


def decode(source: Located) -> Spec:
    """The fields of a definition. Raises DefinitionError with the first mistake of each node and of the rest."""
    if not isinstance(source.value, Mapping):
        raise DefinitionError([source.mistake("", "a definition is a mapping with name and nodes")])
    mistakes: list[Mistake] = []
    plain = source.plain()
    nodes = source.value.get("nodes")
    if nodes is not None and isinstance(nodes.value, Mapping):
        for name, node in nodes.value.items():
            mistakes += _convert(node, plain["nodes"][name], Node, f"nodes.{name}")
            # So that what is wrong in it is told once, and with its name.
            plain["nodes"][name] = {}
    mistakes += _convert(source, plain, Spec, "")
    if mistakes:
        raise DefinitionError(mistakes)
    return msgspec.convert(source.plain(), Spec)


def _convert(source: Located, plain: Any, kind: type, prefix: str) -> list[Mistake]:
    try:
        msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        steps = re.findall(r"`(\$[^`]*)`", path)
        at = steps[-1] if steps else "$"
        unknown = _UNKNOWN_FIELD.fullmatch(problem)
        name = unknown[1] if unknown is not None else ""
        told = _told(problem, name, at)
        return [source.find(at, name).mistake(f"{prefix}{at[1:]}".removeprefix("."), told)]
    return []


def _told(problem: str, unknown: str, path: str) -> str:
    if unknown and path == "$.run":
        return f"there is no runner {unknown!r}; known are {', '.join(RUNNERS)}"
    if unknown:
        return f"there is no field {unknown!r} here"
    return problem[0].lower() + problem[1:]


def runner_of(node: Node) -> str:
    """Which runner its attempts go to; WORKFLOW for a nested one."""
    if node.workflow is not UNSET:
        return WORKFLOW
    return next(name for name in RUNNERS if node.run is not UNSET and getattr(node.run, name) is not UNSET)


def work_of(node: Node) -> Any:
    """What its runner is asked for, its expressions not yet replaced: plain JSON values."""
    if node.workflow is not UNSET:
        return msgspec.to_builtins(node.workflow)
    return msgspec.to_builtins(getattr(node.run, runner_of(node)))


def compile_spec(spec: Spec) -> Definition:
    """Order and successors of a spec. Raises ValueError where nodes need unknown ones, or each other in a circle."""
    order = in_order(spec.nodes)
    if len(order) < len(spec.nodes):
        raise ValueError("the nodes need each other in a circle")
    if any(needed not in spec.nodes for node in spec.nodes.values() for needed in node.needs):
        raise ValueError("a node needs one that is unknown")
    return Definition(spec, order, _successors(spec.nodes))


def in_order(nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """Each behind those that it needs, else as they were written. Left out: circles, and what is behind one."""
    successors = _successors(nodes)
    missing = {name: sum(needed in nodes for needed in node.needs) for name, node in nodes.items()}
    order = [name for name, count in missing.items() if not count]
    for name in order:
        for successor in successors[name]:
            missing[successor] -= 1
            if not missing[successor]:
                order.append(successor)
    return tuple(order)


def _successors(nodes: Mapping[str, Node]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {name: [] for name in nodes}
    for name, node in nodes.items():
        for needed in node.needs:
            found.get(needed, []).append(name)
    return {name: tuple(behind) for name, behind in found.items()}


def stored(spec: Spec) -> bytes:
    """The form in which a definition is stored, and from which it is read again; the order of its nodes stays."""
    return msgspec.json.encode(spec)


def load(payload: bytes) -> Definition:
    """A definition that `stored` wrote. Raises msgspec.DecodeError or ValueError for anything else."""
    return compile_spec(msgspec.json.decode(payload, type=Spec))


def digest(payload: bytes) -> str:
    """SHA-256 of a stored definition, in hexadecimal digits."""
    return hashlib.sha256(payload).hexdigest()
