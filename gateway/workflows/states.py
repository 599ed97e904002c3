"""Where a run, a node and an attempt can stand, and what leads from one state to the next: one table each.

A run: QUEUED until its manager begins it. FAILING and CANCELLING wait for what is still at work; nothing new starts.
A node (or one item or iteration of it): READY may start when there is room, WAITING starts at its time, STOPPING was
told to stop and has not ended. An attempt: INTENT is written before its runner is asked, so that a crash in between
leaves a trace; LOST means that nobody knows how it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from gateway.errors import IllegalTransitionError


class RunStatus(StrEnum):
    """Of a whole run."""

    QUEUED = "queued"
    RUNNING = "running"
    FAILING = "failing"
    CANCELLING = "cancelling"
    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"


class NodeStatus(StrEnum):
    """Of a node, or of one item or iteration of it. One that is not in a run's state waits for those it needs."""

    READY = "ready"
    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class AttemptStatus(StrEnum):
    """Of one attempt at the work of a node."""

    INTENT = "intent"
    SUBMITTED = "submitted"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    LOST = "lost"


_RUN_OVER = frozenset({RunStatus.OK, RunStatus.FAILED, RunStatus.CANCELLED})
_NODE_OVER = frozenset({NodeStatus.OK, NodeStatus.FAILED, NodeStatus.SKIPPED, NodeStatus.CANCELLED})
_ATTEMPT_OVER = frozenset({AttemptStatus.OK, AttemptStatus.FAILED, AttemptStatus.LOST})

RUN: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset({RunStatus.OK, RunStatus.FAILED, RunStatus.FAILING, RunStatus.CANCELLING}),
    RunStatus.FAILING: frozenset({RunStatus.FAILED, RunStatus.CANCELLING}),
    RunStatus.CANCELLING: frozenset({RunStatus.CANCELLED}),
    RunStatus.OK: frozenset(),
    RunStatus.FAILED: frozenset({RunStatus.RUNNING}),
    RunStatus.CANCELLED: frozenset({RunStatus.RUNNING}),
}

NODE: Mapping[NodeStatus | None, frozenset[NodeStatus]] = {
    None: frozenset({NodeStatus.READY, NodeStatus.WAITING, NodeStatus.RUNNING, *_NODE_OVER}),
    NodeStatus.READY: frozenset({NodeStatus.RUNNING, *_NODE_OVER}),
    NodeStatus.WAITING: frozenset({NodeStatus.RUNNING, *_NODE_OVER}),
    NodeStatus.RUNNING: frozenset({NodeStatus.WAITING, NodeStatus.STOPPING, *_NODE_OVER}),
    NodeStatus.STOPPING: frozenset({NodeStatus.WAITING, *_NODE_OVER}),
    NodeStatus.FAILED: frozenset({NodeStatus.READY}),
    NodeStatus.CANCELLED: frozenset({NodeStatus.READY}),
    NodeStatus.OK: frozenset(),
    NodeStatus.SKIPPED: frozenset(),
}

ATTEMPT: Mapping[AttemptStatus | None, frozenset[AttemptStatus]] = {
    None: frozenset({AttemptStatus.INTENT}),
    # A job may report before its submission is written down.
    AttemptStatus.INTENT: frozenset({AttemptStatus.SUBMITTED, AttemptStatus.RUNNING, *_ATTEMPT_OVER}),
    AttemptStatus.SUBMITTED: frozenset({AttemptStatus.RUNNING, *_ATTEMPT_OVER}),
    AttemptStatus.RUNNING: _ATTEMPT_OVER,
    **dict.fromkeys(_ATTEMPT_OVER, frozenset()),
}

S = TypeVar("S", bound=StrEnum)


def follow(table: Mapping[S | None, frozenset[S]] | Mapping[S, frozenset[S]], before: S | None, after: S) -> S:
    """`after` itself. Raises IllegalTransitionError where the table does not lead to it."""
    if after not in table.get(before, frozenset()):  # type: ignore[arg-type]
        raise IllegalTransitionError(f"{before.value if before else 'nothing'} cannot become {after.value}")
    return after


def is_run_over(status: RunStatus) -> bool:
    """Whether nothing happens any more, unless the run is resumed."""
    return status in _RUN_OVER


def is_node_over(status: NodeStatus) -> bool:
    """Whether the node is settled."""
    return status in _NODE_OVER


def is_attempt_over(status: AttemptStatus) -> bool:
    """Whether the attempt has its outcome."""
    return status in _ATTEMPT_OVER


def diagram(table: Mapping[S | None, frozenset[S]] | Mapping[S, frozenset[S]]) -> str:
    """A table as a Mermaid state diagram; the initial state is the first one, or what None leads to."""
    lines = ["stateDiagram-v2"]
    for before, following in table.items():
        if not lines[1:] and before is not None:
            lines.append(f"    [*] --> {before}")
        name = before if before is not None else "[*]"
        lines += [f"    {name} --> {after}" for after in sorted(following)]
    return "\n".join(lines)
