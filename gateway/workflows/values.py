"""What the paths of expressions lead to, for one node of one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.workflows.definition import Definition
from gateway.workflows.expression import ExpressionError, Path, Scope, follow, render
from gateway.workflows.run import WHOLE, Key, Row, State
from gateway.workflows.spec import MAX_ITEMS, Node
from gateway.workflows.states import NodeStatus, is_node_over

# What can be asked of a node besides the fields of its result, which these names hide.
NODE_FIELDS = ("status", "ok", "failed", "total", "error", "results")


def top(node: Node, path: str) -> Key:
    """The row that stands for a node: its only one, or that of the whole."""
    return Key(path, WHOLE) if node.for_each is not None or node.repeat is not None else Key(path)


def scope_of(definition: Definition, state: State, key: Key, *, own: bool = False) -> Scope:
    """What the expressions of a row see. `own`: also its own last iteration, as `repeat.until` does."""
    node = definition.nodes[key.path]

    def scope(path: Path) -> Any:
        if node.for_each is not None and path.root == node.for_each.name and key.iteration >= 0:
            return follow(_item(definition, state, key), path)
        if own and path.root == key.path:
            return _of_node(path, state.rows[key], list)
        return _shared(definition, state, path)

    return scope


def items_of(definition: Definition, state: State, name: str) -> list[Any]:
    """The items of a node with for_each. Raises ExpressionError when they are no list, or too many."""
    each = definition.nodes[name].for_each
    assert each is not None  # noqa: S101 - asked of such nodes only
    if not isinstance(each.items, str):
        # A literal list may hold expressions of its own.
        return [render(item, lambda path: _shared(definition, state, path)) for item in each.items]
    found = render(each.items, lambda path: _shared(definition, state, path))
    if not isinstance(found, list):
        raise ExpressionError(f"{each.items} is no list")
    if len(found) > MAX_ITEMS:
        raise ExpressionError(f"{each.items} has {len(found):,} items; at most {MAX_ITEMS:,} are possible")
    return found


def _item(definition: Definition, state: State, key: Key) -> Any:
    each = definition.nodes[key.path].for_each
    assert each is not None  # noqa: S101 - asked of such nodes only
    if isinstance(each.items, str):
        return items_of(definition, state, key.path)[key.iteration]
    return render(each.items[key.iteration], lambda path: _shared(definition, state, path))


def output_of(definition: Definition, state: State) -> Any:
    """What a run leaves behind. Raises ExpressionError."""
    return render(definition.spec.output, lambda path: _shared(definition, state, path))


def _shared(definition: Definition, state: State, path: Path) -> Any:
    if path.root == "input":
        return follow(state.input, path)
    if path.root == "run":
        fields = {"id": state.id, "name": state.name, "version": state.version, "started_ms": state.started_ms}
        return follow(fields, path)
    node = definition.nodes.get(path.root)
    row = None if node is None else state.rows.get(top(node, path.root))
    if row is None or not is_node_over(row.status):
        raise ExpressionError(f"${{{path}}}: {path.root} is not over")
    count = row.counts.next if row.counts is not None else 0
    return _of_node(path, row, lambda: [_result(state, path.root, number) for number in range(count)])


def _result(state: State, name: str, iteration: int) -> Any:
    row = state.rows.get(Key(name, iteration))
    return None if row is None else row.value


def _of_node(path: Path, row: Row, results: Callable[[], list[Any]]) -> Any:
    if not path.steps:
        return row.value
    first = path.steps[0]
    if first not in NODE_FIELDS:
        return follow(row.value, path)
    counts = row.counts
    if first == "status":
        found: Any = row.status.value
    elif first == "error":
        found = row.error
    elif first == "results":
        found = results()
    elif first == "total":
        found = counts.total if counts is not None else 1
    elif first == "ok":
        found = counts.ok if counts is not None else int(row.status is NodeStatus.OK)
    else:
        found = counts.failed if counts is not None else int(row.error is not None)
    return follow(found, Path(path.root, path.steps[1:])) if path.steps[1:] else found
