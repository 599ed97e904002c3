"""Runs and their events as those see them who ask or watch: over HTTP and in channels alike."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gateway.workflows.records import RunDetail, RunSummary
from gateway.workflows.run import WHOLE
from gateway.workflows.step import Event


class RunInList(Struct, frozen=True):
    """Times in ms since the Unix epoch; null: not yet. `offset` is that of its last event."""

    id: str
    definition: str
    version: int
    status: str
    offset: int
    error: str | None
    created: int
    started: int | None
    ended: int | None


class NodeInRun(Struct, frozen=True, omit_defaults=True):
    """A node that has begun, or one item or iteration of it (`iteration`). `until`: when it goes on by itself.

    A whole node with items or iterations has `total`, `ok` and `failed`, a nested workflow the `run` that it is.
    """

    node: str
    status: str
    iteration: int | None = None
    attempt: int | None = None
    until: int | None = None
    total: int | None = None
    ok: int | None = None
    failed: int | None = None
    error: str | None = None
    run: str | None = None
    value: Any = None


class RunAnswer(Struct, frozen=True):
    """A whole run. `parent` is the run that it is nested in."""

    run: RunInList
    parent: str | None
    input: dict[str, Any]
    output: Any
    nodes: list[NodeInRun]


class EventData(Struct, frozen=True, omit_defaults=True):
    """What happened; `until`: when it goes on by itself. `iteration` is absent where the whole node is meant."""

    kind: str
    node: str | None = None
    iteration: int | None = None
    attempt: int | None = None
    until: int | None = None
    total: int | None = None
    external: str | None = None
    percent: float | None = None
    message: str | None = None
    error: str | None = None
    run: str | None = None


def run_in_list(found: RunSummary) -> RunInList:
    return RunInList(
        found.id,
        found.name,
        found.version,
        found.status,
        found.revision,
        found.error,
        found.created_ms,
        found.started_ms,
        found.ended_ms,
    )


def run_answer(found: RunDetail) -> RunAnswer:
    state = found.state
    several = {key.path for key in state.rows if key.iteration == WHOLE}
    nodes = []
    for key, row in sorted(state.rows.items()):
        counts = row.counts
        nodes.append(
            NodeInRun(
                key.path,
                row.status,
                key.iteration if key.path in several and key.iteration != WHOLE else None,
                row.attempt or None,
                row.due_ms,
                None if counts is None else counts.total,
                None if counts is None else counts.ok,
                None if counts is None else counts.failed,
                row.error,
                row.run,
                row.value,
            )
        )
    parent = None if found.parent is None else found.parent.run
    return RunAnswer(run_in_list(found.summary), parent, dict(state.input), state.output, nodes)


def event_data(event: Event) -> EventData:
    return EventData(
        event.kind,
        event.node,
        event.iteration,
        event.attempt,
        event.until_ms,
        event.total,
        event.external,
        event.percent,
        event.message,
        event.error,
        event.run,
    )
