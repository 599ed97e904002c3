"""Records as rows, and rows as records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.workflows.names import public_id
from gateway.workflows.records import (
    ENGINE,
    Change,
    EventRecord,
    NewRun,
    Parent,
    RunDetail,
    RunSummary,
    Signal,
    SignalKind,
    StoredDefinition,
)
from gateway.workflows.run import Attempt, Key, Row, State
from gateway.workflows.states import RunStatus, is_run_over
from gateway.workflows.step import Event

_row = msgspec.json.Decoder(Row).decode
_event = msgspec.json.Decoder(Event).decode


def as_json(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The parameter of a statement that takes rows."""
    return {"rows": msgspec.json.encode(list(rows)).decode()}


def text_of(value: Any) -> str:
    """A value as JSON text."""
    return msgspec.json.encode(value).decode()


def new_run_row(new: NewRun, version: int, manager: str | None) -> dict[str, Any]:
    parent = new.parent
    return {
        "id": new.id,
        "account": new.account,
        "definition": new.name,
        "version": version,
        "engine": ENGINE,
        "status": RunStatus.QUEUED,
        "revision": 0,
        "manager": manager,
        "epoch": 1,
        "wake_ms": None,
        "key": new.key,
        "parent_run": None if parent is None else parent.run,
        "parent_path": None if parent is None else parent.attempt.path,
        "parent_iteration": None if parent is None else parent.attempt.iteration,
        "parent_attempt": None if parent is None else parent.attempt.number,
        "depth": new.depth,
        "input": text_of(new.input),
        "created_ms": new.created_ms,
    }


def signal_row(run: str, kind: SignalKind, body: Any, now_ms: int) -> dict[str, Any]:
    return {"run": run, "kind": kind, "body": text_of(body), "created_ms": now_ms}


def run_change_row(change: Change) -> dict[str, Any]:
    state = change.state
    over = is_run_over(state.status)
    return {
        "id": state.id,
        "epoch": change.epoch,
        "before": change.before,
        "status": state.status,
        "revision": state.revision,
        "wake_ms": None if over else state.wake_ms,
        "output": None if state.output is None else text_of(state.output),
        "error": state.error,
        "started_ms": state.started_ms,
        "deadline_ms": state.deadline_ms,
        "ended_ms": state.ended_ms,
    }


def node_rows(change: Change) -> list[dict[str, Any]]:
    return [
        {
            "run": change.state.id,
            "path": key.path,
            "iteration": key.iteration,
            "status": row.status,
            "body": text_of(row),
        }
        for key, row in change.rows.items()
    ]


def attempt_rows(change: Change, now_ms: int, *, begun: bool) -> list[dict[str, Any]]:
    run = change.state.id
    return [
        {
            "run": run,
            "path": record.attempt.path,
            "iteration": record.attempt.iteration,
            "attempt": record.attempt.number,
            "token": public_id(run, record.attempt),
            "status": record.status,
            "external": record.external,
            "error": record.error,
            "epoch": change.epoch,
            "created_ms": now_ms,
            "changed_ms": now_ms,
        }
        for record in change.attempts.values()
        if record.begun is begun
    ]


def event_rows(change: Change, now_ms: int) -> list[dict[str, Any]]:
    return [
        {"run": change.state.id, "revision": revision, "time_ms": now_ms, "kind": event.kind, "body": text_of(event)}
        for revision, event in enumerate(change.events, change.before + 1)
    ]


def parent_signal(change: Change, now_ms: int) -> dict[str, Any] | None:
    """What the run that this one is nested in is told at its end."""
    state = change.state
    if change.parent is None or not is_run_over(state.status):
        return None
    body = {"attempt": change.parent.attempt, "status": state.status, "output": state.output, "error": state.error}
    return signal_row(change.parent.run, SignalKind.CHILD, body, now_ms)


def summary_of(row: Any) -> RunSummary:
    return RunSummary(
        row.id,
        row.account,
        row.definition,
        row.version,
        RunStatus(row.status),
        row.revision,
        row.error,
        row.created_ms,
        row.started_ms,
        row.ended_ms,
        row.parent_run,
        row.depth,
    )


def detail_of(row: Any, nodes: Sequence[Any]) -> RunDetail:
    rows = {Key(node.path, node.iteration): _row(node.body) for node in nodes}
    state = State(
        row.id,
        row.definition,
        row.version,
        msgspec.json.decode(row.input),
        RunStatus(row.status),
        row.revision,
        row.started_ms,
        row.deadline_ms,
        row.ended_ms,
        row.error,
        None if row.output is None else msgspec.json.decode(row.output),
        rows,
    )
    parent = None
    if row.parent_run is not None:
        parent = Parent(row.parent_run, Attempt(row.parent_path, row.parent_iteration, row.parent_attempt))
    return RunDetail(summary_of(row), state, parent)


def event_of(row: Any) -> EventRecord:
    return EventRecord(row.revision, row.time_ms, _event(row.body))


def definition_of(row: Any) -> StoredDefinition:
    return StoredDefinition(row.name, row.version, row.spec.encode(), row.sha256, row.created_ms)


def signal_of(row: Any) -> Signal:
    return Signal(row.id, row.run, SignalKind(row.kind), msgspec.json.decode(row.body))
