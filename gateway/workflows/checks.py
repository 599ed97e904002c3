"""What has to be right in a definition beyond the form of its fields. Every mistake is told, each with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import UNSET

from gateway.workflows.definition import RUNNERS, Definition, compile_spec, in_order, runner_of, work_of
from gateway.workflows.expression import (
    NAME,
    Condition,
    ExpressionError,
    Path,
    parse_condition,
    parse_template,
    texts_in,
)
from gateway.workflows.fields import decode
from gateway.workflows.source import DefinitionError, Located, Mistake
from gateway.workflows.spec import Node, Spec

RUN_FIELDS = ("id", "name", "version", "started_ms")
_RESERVED = ("input", "run")
_NAME = re.compile(NAME)
# The nodes that an expression may ask for; None: nobody can tell.
Known = set[str] | None


class Rules(NamedTuple):
    """What is allowed here and now. Each function returns what is wrong, or "".

    `work` is asked with the runner and what a node asks of it, its expressions not replaced; `nested` with the name of
    a definition; `schedule` with a cron expression and a time zone.
    """

    work: Callable[[str, Mapping[str, Any]], str]
    nested: Callable[[str], str]
    schedule: Callable[[str, str], str]


def check(source: Located, rules: Rules) -> Definition:
    """The definition that `source` holds. Raises DefinitionError with every mistake that was found."""
    spec, mistakes, damaged = decode(source)
    if spec is not None:
        mistakes += _of_graph(source, spec, damaged)
        mistakes += _of_nodes(source, spec, rules, damaged)
        mistakes += _of_whole(source, spec, rules, damaged)
    if mistakes or spec is None:
        raise DefinitionError(mistakes)
    return compile_spec(spec)


def _at(source: Located, path: str, problem: str) -> Mistake:
    return source.find(f"$.{path}").mistake(path, problem)


def _of_graph(source: Located, spec: Spec, damaged: frozenset[str]) -> Iterator[Mistake]:
    for name, node in spec.nodes.items():
        for index, needed in enumerate(node.needs):
            at = f"nodes.{name}.needs[{index}]"
            if needed not in spec.nodes and needed not in damaged:
                yield _at(source, at, f"there is no node {needed!r}")
            elif needed in node.needs[:index]:
                yield _at(source, at, f"{needed} is named twice")
    circle = _circle(spec)
    if circle:
        at = f"nodes.{circle[0]}.needs[{spec.nodes[circle[0]].needs.index(circle[1])}]"
        yield _at(source, at, f"a circle: {' needs '.join(circle)}")


def _circle(spec: Spec) -> list[str]:
    """Nodes of which each needs the next one, the first of them again at the end; empty: there is no circle."""
    ordered = set(in_order(spec.nodes))
    left = [name for name in spec.nodes if name not in ordered]
    if not left:
        return []
    way = [left[0]]
    while way[-1] not in way[:-1]:
        way.append(
            next(needed for needed in spec.nodes[way[-1]].needs if needed in spec.nodes and needed not in ordered)
        )
    return way[way.index(way[-1]) :]


def _ancestors(spec: Spec) -> Mapping[str, set[str]]:
    """For each node all that it needs, directly or not. Of nodes behind a circle what can be told."""
    numbers = {name: number for number, name in enumerate(spec.nodes)}
    masks: dict[str, int] = {}
    ordered = in_order(spec.nodes)
    for name in (*ordered, *spec.nodes):
        mask = 0
        for needed in spec.nodes[name].needs:
            if needed in numbers:
                mask |= masks.get(needed, 0) | 1 << numbers[needed]
        masks[name] = mask
    return {name: {other for other, number in numbers.items() if mask >> number & 1} for name, mask in masks.items()}


def _of_nodes(source: Located, spec: Spec, rules: Rules, damaged: frozenset[str]) -> Iterator[Mistake]:
    ancestors = _ancestors(spec)
    for name, node in spec.nodes.items():
        at = f"nodes.{name}"
        if not _NAME.fullmatch(name) or name in _RESERVED:
            yield _at(source, at, f"a node cannot be called {name!r}: expressions mean something else by it")
        # What was left out of a damaged one may be what is missing.
        forms = [] if name in damaged else list(_of_form(source, at, node))
        yield from forms
        if not forms and name not in damaged:
            yield from _of_work(source, at, node, rules)
        known = ancestors[name] if damaged.isdisjoint((name, *node.needs, *ancestors[name])) else None
        yield from _of_expressions(source, spec, name, node, known)


def _of_form(source: Located, at: str, node: Node) -> Iterator[Mistake]:
    if (node.run is UNSET) == (node.workflow is UNSET):
        yield _at(source, at, "exactly one of run and workflow is needed")
    elif node.run is not UNSET and sum(getattr(node.run, name) is not UNSET for name in RUNNERS) != 1:
        yield _at(source, f"{at}.run", f"exactly one runner is needed: {', '.join(RUNNERS)}")
    if node.for_each is not None and node.repeat is not None:
        yield _at(source, f"{at}.repeat", "a node has for_each or repeat, not both; nest a workflow for that")


def _of_work(source: Located, at: str, node: Node, rules: Rules) -> Iterator[Mistake]:
    runner = runner_of(node)
    if node.workflow is not UNSET:
        problem = rules.nested(node.workflow.name)
        if problem:
            yield _at(source, f"{at}.workflow.name", problem)
    else:
        problem = rules.work(runner, work_of(node))
        if problem:
            yield _at(source, f"{at}.run.{runner}", problem)


def _of_expressions(source: Located, spec: Spec, name: str, node: Node, known: Known) -> Iterator[Mistake]:
    at = f"nodes.{name}"
    in_items = known
    if node.for_each is not None:
        alias = node.for_each.name
        if alias in spec.nodes or alias in _RESERVED or not _NAME.fullmatch(alias):
            yield _at(source, f"{at}.for_each.as", f"{alias!r} cannot be the name of an item: it names something else")
        in_items = None if known is None else known | {alias}
        yield from _items(source, f"{at}.for_each.items", node.for_each.items, known)
    if node.when is not None:
        yield from _condition(source, f"{at}.when", node.when, known)
    if node.repeat is not None:
        yield from _condition(
            source, f"{at}.repeat.until", node.repeat.until, None if known is None else known | {name}
        )
    place = "workflow" if node.workflow is not UNSET else f"run.{runner_of(node)}" if _has_work(node) else ""
    if place:
        yield from _templates(source, f"{at}.{place}", work_of(node), in_items)


def _has_work(node: Node) -> bool:
    return node.run is not UNSET and any(getattr(node.run, name) is not UNSET for name in RUNNERS)


def _items(source: Located, at: str, items: Any, known: Known) -> Iterator[Mistake]:
    if not isinstance(items, str):
        return
    try:
        parts = parse_template(items)
    except ExpressionError as error:
        yield _at(source, at, str(error))
        return
    if len(parts) != 1 or isinstance(parts[0], str):
        yield _at(source, at, f"{items!r} is no list; write a list, or one ${{path}} that leads to one")
    else:
        yield from _root(source, at, parts[0], known)


def _condition(source: Located, at: str, text: str, known: Known) -> Iterator[Mistake]:
    try:
        condition: Condition = parse_condition(text)
    except ExpressionError as error:
        yield _at(source, at, str(error))
        return
    for operand in (condition.left, condition.right):
        if isinstance(operand, Path):
            yield from _root(source, at, operand, known)


def _templates(source: Located, at: str, value: Any, known: Known) -> Iterator[Mistake]:
    for inner, text in texts_in(value):
        try:
            parts = parse_template(text)
        except ExpressionError as error:
            yield _at(source, at + inner, str(error))
            continue
        for part in parts:
            if isinstance(part, Path):
                yield from _root(source, at + inner, part, known)


def _root(source: Located, at: str, path: Path, known: Known) -> Iterator[Mistake]:
    if path.root == "run":
        if len(path.steps) != 1 or path.steps[0] not in RUN_FIELDS:
            yield _at(source, at, f"${{{path}}}: of run there are {', '.join(RUN_FIELDS)}")
    elif path.root != "input" and known is not None and path.root not in known:
        allowed = ", ".join(["input", "run", *sorted(known)])
        yield _at(source, at, f"${{{path}}}: {path.root} is not known here (a node has to be needed); known: {allowed}")


def _of_whole(source: Located, spec: Spec, rules: Rules, damaged: frozenset[str]) -> Iterator[Mistake]:
    if not _NAME.fullmatch(spec.name):
        yield _at(source, "name", f"a definition cannot be called {spec.name!r}")
    yield from _templates(source, "output", spec.output, {*spec.nodes, *damaged})
    if spec.schedule is not None:
        problem = rules.schedule(spec.schedule.cron, spec.schedule.time_zone)
        if problem:
            yield _at(source, "schedule", problem)
