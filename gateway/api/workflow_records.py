"""Bodies and answers about workflows."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.workflows.definition import Definition
from gateway.workflows.records import EventRecord, StoredDefinition
from gateway.workflows.shown import EventData, RunInList, event_data
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


class RunsPage(Struct, frozen=True):
    """The newest first. `next` continues after them; null: there are no more."""

    runs: list[RunInList]
    next: str | None


class EventInAnswer(Struct, frozen=True):
    """One line of a run's history; `time` in ms since the Unix epoch."""

    offset: int
    time: int
    data: EventData


class EventsAnswer(Struct, frozen=True):
    """`next` is the `after` that goes on behind them. `over`: the run has ended, and there are no more."""

    events: list[EventInAnswer]
    next: int
    over: bool


def definition_answer(definition: Definition, stored: StoredDefinition | None) -> DefinitionAnswer:
    nodes = [
        NodeInGraph(name, list(definition.nodes[name].needs), definition.runners[name]) for name in definition.order
    ]
    return DefinitionAnswer(definition.spec.name, None if stored is None else stored.version, nodes, definition.spec)


def event_answer(record: EventRecord) -> EventInAnswer:
    return EventInAnswer(record.revision, record.time_ms, event_data(record.event))
