"""How nodes, their items and their iterations begin and end. `advance.py` has the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from gateway.workflows.definition import WORKFLOW
from gateway.workflows.expression import ExpressionError, holds, parse_condition
from gateway.workflows.names import child_run
from gateway.workflows.run import WHOLE, Attempt, Counts, Key, Row
from gateway.workflows.spec import Node
from gateway.workflows.states import AttemptStatus, NodeStatus, RunStatus, is_node_over
from gateway.workflows.step import Kind, StartChild, Submit
from gateway.workflows.turn import Turn
from gateway.workflows.values import items_of, scope_of, top
from gateway.workflows.work import asked_of

_ENDED: Mapping[NodeStatus, Kind] = {
    NodeStatus.OK: Kind.NODE_OK,
    NodeStatus.FAILED: Kind.NODE_FAILED,
    NodeStatus.SKIPPED: Kind.NODE_SKIPPED,
    NodeStatus.CANCELLED: Kind.NODE_CANCELLED,
}


def look(turn: Turn, name: str) -> None:
    """Begin a node whose time has come, or go on with one that has more to do."""
    node = turn.definition.nodes[name]
    key = top(node, name)
    row = turn.rows.get(key)
    if row is not None and row.counts is not None and row.status is NodeStatus.RUNNING:
        _fill(turn, key, node)
    elif turn.status is RunStatus.RUNNING and (row is None or row.status is NodeStatus.READY) and _is_free(turn, node):
        turn.budget -= 1
        _open(turn, key, node, row or Row(NodeStatus.READY))


def _is_free(turn: Turn, node: Node) -> bool:
    rows = (turn.rows.get(top(turn.definition.nodes[needed], needed)) for needed in node.needs)
    return all(row is not None and is_node_over(row.status) for row in rows)


def _open(turn: Turn, key: Key, node: Node, row: Row) -> None:
    """Everything that the node needs is over."""
    if row.counts is not None:
        # It was open before its run failed or was cancelled: its items are known.
        _open_whole(turn, key, node, row.counts)
        return
    try:
        if node.when is not None and not holds(parse_condition(node.when), scope_of(turn.definition, turn.state, key)):
            settle(turn, key, NodeStatus.SKIPPED)
            return
        total = len(items_of(turn.definition, turn.state, key.path)) if node.for_each is not None else 0
    except ExpressionError as error:
        settle(turn, key, NodeStatus.FAILED, error=str(error))
        return
    if key.iteration == WHOLE:
        _open_whole(turn, key, node, Counts(node.repeat.max_iterations if node.repeat is not None else total))
    else:
        turn.put(key, replace(row, deadline_ms=_deadline(turn, node)))
        start(turn, key)


def _open_whole(turn: Turn, key: Key, node: Node, counts: Counts) -> None:
    turn.put(key, Row(NodeStatus.RUNNING, deadline_ms=_deadline(turn, node), counts=counts))
    turn.tell(Kind.NODE_STARTED, key, total=counts.total)
    _fill(turn, key, node)


def _deadline(turn: Turn, node: Node) -> int | None:
    return None if node.deadline_s is None else turn.now_ms + round(node.deadline_s * 1000)


def _fill(turn: Turn, key: Key, node: Node) -> None:
    """Begin as many items as there is room for, or end the whole when nothing is left to do."""
    parallel = node.for_each.max_parallel if node.for_each is not None else 1
    while (row := turn.rows[key]).status is NodeStatus.RUNNING and (counts := row.counts) is not None:
        halted = turn.status is not RunStatus.RUNNING or (counts.failed > 0 and node.on_error == "fail")
        # A repeat begins its later iterations by itself, when it sees that the condition does not hold.
        left = counts.again or (counts.next < counts.total if node.for_each is not None else counts.next == 0)
        if halted or not left:
            if not counts.at_work:
                _end_whole(turn, key, node, counts)
            return
        if counts.at_work >= parallel:
            return
        if turn.budget <= 0:
            turn.look_first_at(key.path)
            return
        turn.budget -= 1
        _begin_next(turn, key, row, counts)


def _begin_next(turn: Turn, key: Key, row: Row, counts: Counts) -> None:
    if counts.again:
        number, counts = counts.again[0], replace(counts, again=counts.again[1:], at_work=counts.at_work + 1)
    else:
        number, counts = counts.next, replace(counts, next=counts.next + 1, at_work=counts.at_work + 1)
    turn.put(key, replace(row, counts=counts))
    start(turn, Key(key.path, number))


def _end_whole(turn: Turn, key: Key, node: Node, counts: Counts) -> None:
    done = node.for_each is not None and counts.ok + counts.failed == counts.total
    if counts.failed and (node.on_error != "skip" or node.repeat is not None):
        settle(turn, key, NodeStatus.FAILED, error=_first_error(turn, key, counts))
    elif done:
        settle(turn, key, NodeStatus.OK)
    else:
        settle(turn, key, _unfinished(turn), error=turn.error)


def _unfinished(turn: Turn) -> NodeStatus:
    """What becomes of a node that the end of its run does not let finish."""
    return NodeStatus.CANCELLED if turn.status is RunStatus.CANCELLING else NodeStatus.FAILED


def _first_error(turn: Turn, key: Key, counts: Counts) -> str:
    rows = (turn.rows.get(Key(key.path, number)) for number in range(counts.next))
    first = next((row.error for row in rows if row is not None and row.error), "")
    return first if counts.next == 1 else f"{counts.failed} of {counts.total} failed; the first: {first}"


def start(turn: Turn, key: Key) -> None:
    """A new attempt."""
    node = turn.definition.nodes[key.path]
    row = turn.rows.get(key) or Row(NodeStatus.READY)
    whole = turn.rows.get(Key(key.path, WHOLE))
    deadline_ms = whole.deadline_ms if whole is not None else row.deadline_ms
    if deadline_ms is not None and turn.now_ms >= deadline_ms:
        settle(turn, key, NodeStatus.FAILED, error=row.error or f"its node was not over within {node.deadline_s:g} s")
        return
    try:
        work = asked_of(turn.definition, key.path, lambda: scope_of(turn.definition, turn.state, key))
    except ExpressionError as error:
        settle(turn, key, NodeStatus.FAILED, error=str(error))
        return
    timeout_ms = None if node.timeout_s is None else turn.now_ms + round(node.timeout_s * 1000)
    due_ms = min((time for time in (deadline_ms, timeout_ms) if time is not None), default=None)
    attempt = Attempt(key.path, key.iteration, row.attempt + 1)
    nested = child_run(turn.run, attempt) if turn.definition.runners[key.path] == WORKFLOW else None
    begun = Row(NodeStatus.RUNNING, attempt.number, row.first, due_ms=due_ms, deadline_ms=deadline_ms, run=nested)
    turn.put(key, begun)
    turn.phase(attempt, AttemptStatus.INTENT, None)
    turn.active.add(key)
    if nested is not None:
        turn.commands.append(StartChild(attempt, nested, work["name"], work["input"]))
    else:
        turn.commands.append(Submit(attempt, turn.definition.runners[key.path], work))
    turn.tell(Kind.ATTEMPT_STARTED, attempt, run=nested)


def settle(turn: Turn, key: Key, status: NodeStatus, value: Any = None, error: str | None = None) -> None:
    """A row is over; what follows from that is looked at next."""
    node = turn.definition.nodes[key.path]
    if status is NodeStatus.FAILED and node.on_error == "skip":
        status = NodeStatus.SKIPPED
    before = turn.rows.get(key) or Row(status)
    turn.put(key, replace(before, status=status, value=value, error=error, due_ms=None, reason=None))
    turn.active.discard(key)
    turn.tell(_ENDED[status], key, error=error)
    whole = Key(key.path, WHOLE)
    if key.iteration != WHOLE and whole in turn.rows:
        _count(turn, whole, node, key)
        return
    if status is NodeStatus.FAILED:
        said = f"{key.path}: {error}"
        if node.on_error == "fail":
            fail_run(turn, said)
        else:
            turn.blame(said)
    turn.look_at(turn.definition.successors[key.path])


def _count(turn: Turn, whole: Key, node: Node, key: Key) -> None:
    """An item or iteration is over."""
    row, ended = turn.rows[whole], turn.rows[key]
    counts = row.counts or Counts(0)
    ok = ended.status is NodeStatus.OK
    counts = replace(
        counts,
        at_work=counts.at_work - 1,
        ok=counts.ok + int(ok),
        failed=counts.failed + int(counts_as_failed(ended)),
    )
    turn.put(whole, replace(row, counts=counts))
    if ok and node.repeat is not None:
        _repeat(turn, whole, node, key, counts)
    turn.look_first_at(key.path)


def counts_as_failed(row: Row) -> bool:
    """Whether an item is one of those that failed, forgiven or not."""
    return row.status is NodeStatus.FAILED or (row.status is NodeStatus.SKIPPED and row.error is not None)


def _repeat(turn: Turn, whole: Key, node: Node, key: Key, counts: Counts) -> None:
    """Whether the condition holds, or another iteration follows."""
    assert node.repeat is not None  # noqa: S101 - asked of such nodes only
    try:
        scope = scope_of(turn.definition, turn.state, key, own=True)
        done = holds(parse_condition(node.repeat.until), scope)
    except ExpressionError as error:
        settle(turn, whole, NodeStatus.FAILED, error=str(error))
        return
    if done:
        settle(turn, whole, NodeStatus.OK, value=turn.rows[key].value)
    elif counts.next >= counts.total:
        said = f"{node.repeat.until} did not hold after {counts.total} iterations"
        settle(turn, whole, NodeStatus.FAILED, error=said)
    elif turn.status is RunStatus.RUNNING:
        following = Key(key.path, counts.next)
        due_ms = turn.now_ms + round(node.repeat.wait_s * 1000)
        counts = replace(counts, next=counts.next + 1, at_work=counts.at_work + 1)
        turn.put(whole, replace(turn.rows[whole], counts=counts))
        turn.put(following, Row(NodeStatus.WAITING, due_ms=due_ms))
        turn.active.add(following)
        turn.tell(Kind.NODE_WAITING, following, until_ms=due_ms)
    else:
        settle(turn, whole, _unfinished(turn), error=turn.error)


def fail_run(turn: Turn, error: str) -> None:
    """Nothing new begins; what waits is given up, what is at work ends by itself."""
    turn.blame(error)
    if turn.status is not RunStatus.RUNNING:
        return
    turn.become(RunStatus.FAILING)
    turn.tell(Kind.RUN_FAILING, error=error)
    give_up_waits(turn)
    # Nodes with more to do have to see that nothing new begins.
    turn.look_at(turn.definition.order)


def give_up_waits(turn: Turn) -> None:
    """What waits for a time is over at once."""
    for key in sorted(turn.active):
        row = turn.rows[key]
        if row.status is NodeStatus.WAITING:
            settle(turn, key, _unfinished(turn), error=row.error or turn.error)
