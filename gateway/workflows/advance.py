"""`advance`: everything that a run does, decided without doing it.

Rule 1. A node is looked at once all that it needs is over. Its `when` decides whether it runs; then its items, its
first iteration, or its one attempt begin.
Rule 2. An attempt is INTENT when it is decided, and nothing else may be done before that is stored. Its runner says
where it will be found, and begins it only once that is stored, too: so one without such a name was never begun.
Rule 3. What is reported of an attempt counts only while it is the last one of its row and the row is at work. All else
is late, doubled or foreign, and changes nothing.
Rule 4. A failed attempt is followed by the next one after its wait, decided in the same step: late perhaps, never
early, never twice. One that is told to stop is followed by another only once it has ended, or patience has.
Rule 5. The failure of a node with `on_error: fail` lets nothing new begin; what is at work ends, and then the run does.
With `continue` the run goes on and fails at its end, with `skip` it was no failure.
Rule 6. A cancelled run begins nothing: waits end at once, what is at work is told to stop. A result that still comes is
kept.
Rule 7. A resumed run does again what failed or was cancelled, and what has not begun; nothing that succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from gateway.errors import IllegalTransitionError
from gateway.workflows.definition import Definition
from gateway.workflows.expression import ExpressionError
from gateway.workflows.nodes import counts_as_failed, fail_run, give_up_waits, look, settle, start
from gateway.workflows.retry import wait_s
from gateway.workflows.run import WHOLE, Attempt, Counts, Key, Row, State
from gateway.workflows.spec import Node
from gateway.workflows.states import AttemptStatus, NodeStatus, RunStatus, is_run_over
from gateway.workflows.step import (
    Begin,
    Cancel,
    Failed,
    Finished,
    Happening,
    Kind,
    Proceed,
    Progress,
    Resume,
    Step,
    Stop,
    Submitted,
    Tick,
)
from gateway.workflows.turn import Turn
from gateway.workflows.values import output_of

# How long an attempt that was told to stop may take until it counts as lost.
STOP_PATIENCE_S = 120.0
MAX_ERROR_CHARS = 2_000
_AT_WORK = (NodeStatus.RUNNING, NodeStatus.STOPPING)
_TO_REDO = (NodeStatus.FAILED, NodeStatus.CANCELLED, NodeStatus.READY)


def advance(definition: Definition, state: State, happening: Happening, now_ms: int, budget: int = 256) -> Step:
    """Apply what happened. `state` is not changed; about `budget` nodes, items or waits at most begin in one call.

    Raises IllegalTransitionError for Begin, Cancel or Resume where the run's status does not allow them.
    """
    turn = Turn(definition, state, now_ms, budget)
    _HANDLERS[type(happening)](turn, happening)
    if not is_run_over(turn.status) and turn.status is not RunStatus.QUEUED:
        _look_at_all(turn)
        _due(turn)
        if turn.is_idle:
            _end(turn)
    return turn.result()


def _look_at_all(turn: Turn) -> None:
    while (name := turn.next_name()) is not None:
        look(turn, name)


def loaded(definition: Definition, state: State) -> State:
    """A state as a store returned it, with what only memory holds worked out again."""
    alive = (*_AT_WORK, NodeStatus.WAITING)
    active = frozenset(key for key, row in state.rows.items() if key.iteration != WHOLE and row.status in alive)
    going = state.status in (RunStatus.RUNNING, RunStatus.FAILING, RunStatus.CANCELLING)
    return replace(state, active=active, pending=definition.order if going else ())


# What happened


def _begin(turn: Turn, _: Begin) -> None:
    if turn.status is not RunStatus.QUEUED:
        # One that was cancelled may run again, but by a resume.
        raise IllegalTransitionError(f"a run that is {turn.status} cannot begin")
    turn.become(RunStatus.RUNNING)
    turn.note(started_ms=turn.now_ms, deadline_ms=_run_deadline(turn))
    turn.tell(Kind.RUN_STARTED)
    turn.look_at(turn.definition.order)


def _run_deadline(turn: Turn) -> int | None:
    limit_s = turn.definition.spec.deadline_s
    return None if limit_s is None else turn.now_ms + round(limit_s * 1000)


def _tick(turn: Turn, _: Tick) -> None:
    """What is due is found after every happening."""


def _cancel(turn: Turn, happening: Cancel) -> None:
    if turn.status is RunStatus.QUEUED:
        turn.become(RunStatus.CANCELLED)
        turn.tell(Kind.RUN_CANCELLED, error=happening.why)
        return
    turn.become(RunStatus.CANCELLING)
    turn.tell(Kind.RUN_CANCELLING, error=happening.why)
    turn.blame(happening.why)
    _stop_all(turn, happening.why)


def _stop_all(turn: Turn, reason: str) -> None:
    give_up_waits(turn)
    for key in sorted(turn.active):
        if turn.rows[key].status is NodeStatus.RUNNING:
            _stop(turn, key, reason)
    turn.look_at(turn.definition.order)


def _stop(turn: Turn, key: Key, reason: str) -> None:
    row = turn.rows[key]
    due_ms = turn.now_ms + round(STOP_PATIENCE_S * 1000)
    turn.put(key, replace(row, status=NodeStatus.STOPPING, reason=reason, due_ms=due_ms))
    attempt = Attempt(key.path, key.iteration, row.attempt)
    turn.tell(Kind.NODE_STOPPING, attempt, message=reason)
    turn.commands.append(Stop(attempt, turn.definition.runners[key.path], row.external, reason))


def _resume(turn: Turn, _: Resume) -> None:
    if turn.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        raise IllegalTransitionError(f"a run that is {turn.status} cannot be resumed")
    turn.become(RunStatus.RUNNING)
    begun_ms = turn.now_ms if turn.started_ms is None else turn.started_ms
    turn.error = None
    turn.note(started_ms=begun_ms, deadline_ms=_run_deadline(turn))
    turn.tell(Kind.RUN_RESUMED)
    # The row of a whole node comes before those of its items, which it has to see as they were.
    for key, row in sorted(turn.rows.items(), key=lambda item: item[0]):
        if row.status in _TO_REDO:
            _redo(turn, key, row, turn.definition.nodes[key.path])
    turn.look_at(turn.definition.order)


def _redo(turn: Turn, key: Key, row: Row, node: Node) -> None:
    if key.iteration == WHOLE and row.counts is not None:
        turn.put(key, Row(NodeStatus.READY, counts=_counts_again(turn, key, row.counts, node)))
    else:
        turn.put(key, Row(NodeStatus.READY, row.attempt, row.attempt + 1))


def _counts_again(turn: Turn, key: Key, counts: Counts, node: Node) -> Counts:
    rows = {number: turn.rows.get(Key(key.path, number)) for number in range(counts.next)}
    again = tuple(number for number, row in rows.items() if row is None or row.status in _TO_REDO)
    failed = sum(
        row is not None and row.status is NodeStatus.SKIPPED and counts_as_failed(row) for row in rows.values()
    )
    if node.repeat is not None and not again:
        # Its iterations were fine, its condition did not hold: it gets as many of them again.
        total = counts.next + node.repeat.max_iterations
        return Counts(total, counts.next + 1, ok=counts.ok, again=(counts.next,))
    return Counts(counts.total, counts.next, ok=counts.ok, failed=failed, again=again)


def _submitted(turn: Turn, happening: Submitted) -> None:
    row = _current(turn, happening.attempt)
    if row is not None and row.phase is AttemptStatus.INTENT:
        turn.phase(happening.attempt, AttemptStatus.SUBMITTED, happening.external)
        turn.tell(Kind.ATTEMPT_SUBMITTED, happening.attempt, external=happening.external)
        turn.commands.append(Proceed(happening.attempt, turn.definition.runners[happening.attempt.path]))


def _progress(turn: Turn, happening: Progress) -> None:
    row = _current(turn, happening.attempt)
    if row is not None:
        if row.phase is not AttemptStatus.RUNNING:
            turn.phase(happening.attempt, AttemptStatus.RUNNING, row.external)
        turn.tell(Kind.PROGRESS, happening.attempt, percent=happening.percent, message=happening.message)


def _finished(turn: Turn, happening: Finished) -> None:
    row = _current(turn, happening.attempt)
    if row is not None:
        turn.phase(happening.attempt, AttemptStatus.OK, row.external)
        settle(turn, happening.attempt.key, NodeStatus.OK, value=happening.value)


def _failed(turn: Turn, happening: Failed) -> None:
    attempt = happening.attempt
    row = _current(turn, attempt)
    if row is None:
        return
    # What it says at its end is of no interest when it was told to stop.
    error = (row.reason or happening.error)[:MAX_ERROR_CHARS]
    turn.phase(attempt, AttemptStatus.LOST if happening.lost else AttemptStatus.FAILED, row.external, error)
    if turn.status is RunStatus.CANCELLING:
        settle(turn, attempt.key, NodeStatus.CANCELLED, error=error)
        return
    retry = turn.definition.nodes[attempt.path].retry
    pause_s = wait_s(retry, row.attempt - row.first + 1) if happening.again else None
    if pause_s is None or turn.status is not RunStatus.RUNNING:
        settle(turn, attempt.key, NodeStatus.FAILED, error=error)
        return
    due_ms = turn.now_ms + round(pause_s * 1000)
    if row.deadline_ms is not None and due_ms >= row.deadline_ms:
        said = f"{error} (no time for another attempt before its deadline)"
        settle(turn, attempt.key, NodeStatus.FAILED, error=said)
        return
    turn.tell(Kind.NODE_WAITING, attempt, error=error, until_ms=due_ms)
    waiting = replace(turn.rows[attempt.key], status=NodeStatus.WAITING, due_ms=due_ms, error=error, reason=None)
    turn.put(attempt.key, waiting)


def _current(turn: Turn, attempt: Attempt) -> Row | None:
    """The row that an attempt is the last one of, while it is at work."""
    row = turn.rows.get(attempt.key)
    return row if row is not None and row.attempt == attempt.number and row.status in _AT_WORK else None


_HANDLERS: Mapping[type, Callable[[Turn, Any], None]] = {
    Begin: _begin,
    Tick: _tick,
    Cancel: _cancel,
    Resume: _resume,
    Submitted: _submitted,
    Progress: _progress,
    Finished: _finished,
    Failed: _failed,
}


# What is due


def _due(turn: Turn) -> None:
    deadline_ms = turn.deadline_ms
    if deadline_ms is not None and turn.now_ms >= deadline_ms and turn.status is RunStatus.RUNNING:
        said = f"the run was not over within {turn.definition.spec.deadline_s:g} s"
        fail_run(turn, said)
        _stop_all(turn, said)
        _look_at_all(turn)
    due = [key for key in turn.active if _is_due(turn, key)]
    for key in sorted(due, key=lambda key: (turn.rows[key].due_ms or 0, key)):
        if turn.budget <= 0:
            return
        if _is_due(turn, key):
            turn.budget -= 1
            _ON_TIME[turn.rows[key].status](turn, key)
            # What follows from it comes before the next that is due, as if there had been time in between.
            _look_at_all(turn)


def _is_due(turn: Turn, key: Key) -> bool:
    due_ms = turn.rows[key].due_ms
    return due_ms is not None and due_ms <= turn.now_ms


def _time_out(turn: Turn, key: Key) -> None:
    row, node = turn.rows[key], turn.definition.nodes[key.path]
    late = row.deadline_ms is not None and turn.now_ms >= row.deadline_ms
    limit_s = node.deadline_s if late else node.timeout_s
    _stop(turn, key, f"not over within {limit_s or 0:g} s")


def _lose(turn: Turn, key: Key) -> None:
    attempt = Attempt(key.path, key.iteration, turn.rows[key].attempt)
    _failed(turn, Failed(attempt, f"did not end within {STOP_PATIENCE_S:g} s after it was told to stop", lost=True))


_ON_TIME: Mapping[NodeStatus, Callable[[Turn, Key], None]] = {
    NodeStatus.WAITING: start,
    NodeStatus.RUNNING: _time_out,
    NodeStatus.STOPPING: _lose,
}


def _end(turn: Turn) -> None:
    """Nothing is at work, and nothing is left to look at."""
    if turn.status is RunStatus.CANCELLING:
        turn.become(RunStatus.CANCELLED)
        turn.tell(Kind.RUN_CANCELLED, error=turn.error)
        return
    output = None
    if turn.error is None:
        try:
            output = output_of(turn.definition, turn.state)
        except ExpressionError as error:
            turn.blame(f"output: {error}")
    if turn.error is not None:
        turn.become(RunStatus.FAILED)
        turn.tell(Kind.RUN_FAILED, error=turn.error)
        return
    turn.become(RunStatus.OK)
    turn.note(output=output)
    turn.tell(Kind.RUN_OK)
