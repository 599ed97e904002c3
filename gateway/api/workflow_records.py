"""Bodies and answers about workflows."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.workflows.definition import Definition, runner_of
from gateway.workflows.records import EventRecord, RunDetail, RunSummary, StoredDefinition
from gateway.workflows.run import WHOLE
from gateway.workflows.spec import Name, Spec

MAX_VERSION = 2**31 - 1
MAX_WHY_CHARS = 500


class NodeInGraph(Struct, frozen=True):
    """A node with what it needs; `runner` is `workflow` for a nested one."""

    name: str
    needs: list[str]
    runner: str


class DefinitionAnswer(Struct, frozen=True):
    """`version` null: it was only checked. `nodes` are in an order in which each comes behind those that it needs."""

    name: str
    version: int | None
    nodes: list[NodeInGraph]
    spec: Spec


class DefinitionInList(Struct, frozen=True):
    """The newest version; `created` in ms since the Unix epoch."""

    name: str
    version: int
    sha256: str
    created: int


class DefinitionsPage(Struct, frozen=True):
    """By name. `next` continues after them; null: there are no more."""

    definitions: list[DefinitionInList]
    next: str | None


class RunBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which definition, and its input. `version` null: the newest one."""

    definition: Name
    version: Annotated[int, Meta(ge=1, le=MAX_VERSION)] | None = None
    input: dict[str, Any] = {}


class CancelBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`why` is shown to those who watch the run."""

    why: Annotated[str, Meta(min_length=1, max_length=MAX_WHY_CHARS)] = "cancelled"


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


class RunsPage(Struct, frozen=True):
    """The newest first. `next` continues after them; null: there are no more."""

    runs: list[RunInList]
    next: str | None


class NodeInRun(Struct, frozen=True, omit_defaults=True):
    """A node that has begun, or one item or iteration of it (`iteration`). `until`: when it goes on by itself.

    A whole node with items or iterations has `total`, `ok` and `failed`.
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
    value: Any = None


class RunAnswer(Struct, frozen=True):
    """A whole run. `parent` is the run that it is nested in."""

    run: RunInList
    parent: str | None
    input: dict[str, Any]
    output: Any
    nodes: list[NodeInRun]


class EventInAnswer(Struct, frozen=True, omit_defaults=True):
    """One line of a run's history; `time` in ms since the Unix epoch."""

    offset: int
    time: int
    kind: str
    node: str | None = None
    iteration: int | None = None
    attempt: int | None = None
    until: int | None = None
    total: int | None = None
    percent: float | None = None
    message: str | None = None
    error: str | None = None
    run: str | None = None


class EventsAnswer(Struct, frozen=True):
    """`next` is the `after` that goes on behind them. `over`: the run has ended, and there are no more."""

    events: list[EventInAnswer]
    next: int
    over: bool


def definition_answer(definition: Definition, stored: StoredDefinition | None) -> DefinitionAnswer:
    nodes = [
        NodeInGraph(name, list(definition.nodes[name].needs), runner_of(definition.nodes[name]))
        for name in definition.order
    ]
    return DefinitionAnswer(definition.spec.name, None if stored is None else stored.version, nodes, definition.spec)


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
                row.value,
            )
        )
    parent = None if found.parent is None else found.parent.run
    return RunAnswer(run_in_list(found.summary), parent, dict(state.input), state.output, nodes)


def event_answer(record: EventRecord) -> EventInAnswer:
    event = record.event
    return EventInAnswer(
        record.revision,
        record.time_ms,
        event.kind,
        event.node,
        event.iteration,
        event.attempt,
        event.until_ms,
        event.total,
        event.percent,
        event.message,
        event.error,
        event.run,
    )
