"""A definition that was checked, and what follows from it: order, successors, which node is what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from gateway.workflows.spec import Node, Run, Spec

RUNNERS = Run.__struct_fields__
# What runs a nested workflow is no runner: the store itself begins it.
WORKFLOW = "workflow"


class Definition(NamedTuple):
    """`order` has every node behind those it needs; `successors` are those that need it.

    `runners` says where the attempts of each node go, `asked` what is asked of them there, their expressions not
    replaced; those without any are `fixed`. `several` have items or iterations.
    """

    spec: Spec
    order: tuple[str, ...]
    successors: Mapping[str, tuple[str, ...]]
    runners: Mapping[str, str]
    asked: Mapping[str, Any]
    fixed: frozenset[str]
    several: frozenset[str]

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes by their names."""
        return self.spec.nodes


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
    asked = {name: work_of(node) for name, node in spec.nodes.items()}
    return Definition(
        spec,
        order,
        _successors(spec.nodes),
        {name: runner_of(node) for name, node in spec.nodes.items()},
        asked,
        frozenset(name for name, work in asked.items() if "${" not in msgspec.json.encode(work).decode()),
        frozenset(name for name, node in spec.nodes.items() if node.for_each is not None or node.repeat is not None),
    )


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
