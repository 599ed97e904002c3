"""Records as rows, and rows as records."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.errors import StoreError
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

# What the rows hold that are written, in this order.
ATTEMPT_KEY = ("run", "path", "iteration", "attempt")
ATTEMPT_CHANGE = ("status", "external", "error", "changed_ms")
NEW_ATTEMPT = (*ATTEMPT_KEY, "token", "status", "external", "error", "epoch", "created_ms", "changed_ms")
NEW_EVENT = ("run", "revision", "time_ms", "kind", "body")
NEW_LINE = ("account", "number", "time_ms", "body")
NEW_NODE = ("run", "path", "iteration", "status", "body")
NEW_RUN = (
    "id",
    "account",
    "definition",
    "version",
    "engine",
    "status",
    "revision",
    "manager",
    "epoch",
    "key",
    "parent_run",
    "parent_path",
    "parent_iteration",
    "parent_attempt",
    "depth",
    "input",
    "created_ms",
)
NEW_SIGNAL = ("run", "kind", "body", "created_ms")
RUN_CHANGE = ("status", "revision", "wake_ms", "output", "error", "started_ms", "deadline_ms", "ended_ms")
Values = tuple[Any, ...]
_encode = msgspec.json.Encoder().encode
_row = msgspec.json.Decoder(Row).decode
_event = msgspec.json.Decoder(Event).decode


def text_of(value: Any) -> str:
    """A value as JSON text."""
    return _encode(value).decode()


def new_run_row(new: NewRun, version: int | None, manager: str | None) -> Values:
    parent = new.parent
    return (
        new.id,
        new.account,
        new.name,
        version,
        ENGINE,
        RunStatus.QUEUED,
        0,
        manager,
        1,
        new.key,
        None if parent is None else parent.run,
        *((None, None, None) if parent is None else parent.attempt),
        new.depth,
        text_of(new.input),
        new.created_ms,
    )


def signal_row(run: str, kind: SignalKind, body: Any, now_ms: int) -> Values:
    return run, kind, text_of(body), now_ms


def run_change_row(change: Change) -> Values:
    state = change.state
    return (
        state.id,
        change.epoch,
        change.before,
        state.status,
        state.revision,
        None if is_run_over(state.status) else state.wake_ms,
        None if state.output is None else text_of(state.output),
        state.error,
        state.started_ms,
        state.deadline_ms,
        state.ended_ms,
    )


def node_rows(change: Change) -> Iterator[Values]:
    run = change.state.id
    for key, row in change.rows.items():
        yield run, key.path, key.iteration, row.status, text_of(row)


def new_attempt_rows(change: Change, now_ms: int) -> Iterator[Values]:
    run, epoch = change.state.id, change.epoch
    for attempt, record in change.attempts.items():
        if record.begun:
            token = public_id(run, attempt)
            yield run, *attempt, token, record.status, record.external, record.error, epoch, now_ms, now_ms


def attempt_change_rows(change: Change, now_ms: int) -> Iterator[Values]:
    run = change.state.id
    for attempt, record in change.attempts.items():
        if not record.begun:
            yield run, *attempt, record.status, record.external, record.error, now_ms


def event_rows(change: Change, now_ms: int) -> Iterator[Values]:
    run = change.state.id
    for revision, event in enumerate(change.events, change.before + 1):
        yield run, revision, now_ms, event.kind, text_of(event)


def parent_signal(change: Change, now_ms: int) -> Values | None:
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


@contextlib.contextmanager
def readable(run: str) -> Iterator[None]:
    """Turn what a row makes decoding raise into StoreError: it is of a later version, or damaged."""
    try:
        yield
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"the run {run} cannot be read: {error}") from error


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
