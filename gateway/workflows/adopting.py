"""What has to be asked for again of a run whose manager does not know what its runners were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from gateway.workflows.definition import WORKFLOW, Definition
from gateway.workflows.expression import ExpressionError
from gateway.workflows.run import Attempt, State
from gateway.workflows.states import NodeStatus
from gateway.workflows.step import Adopt, Stop
from gateway.workflows.values import scope_of
from gateway.workflows.work import asked_of

_AT_WORK = (NodeStatus.RUNNING, NodeStatus.STOPPING)


def adoptions(definition: Definition, state: State) -> Iterator[Adopt | Stop]:
    """What has to be asked for again of a run that was read from the store."""
    for key in sorted(state.active):
        row = state.rows[key]
        if row.status not in _AT_WORK:
            continue
        attempt = Attempt(key.path, key.iteration, row.attempt)
        runner = definition.runners[key.path]
        if runner != WORKFLOW:
            try:
                work = asked_of(definition, key.path, partial(scope_of, definition, state, key))
            except ExpressionError:
                # It had a value when it was asked for.
                work = None
            yield Adopt(attempt, runner, row.external, work, row.status is NodeStatus.RUNNING)
        if row.status is NodeStatus.STOPPING:
            yield Stop(attempt, runner, row.external, row.reason or "")
