"""Several steps of one run as one change: a batch holds a run once, and what was superseded is never written."""

from __future__ import annotations

import msgspec

from gateway.workflows.records import AttemptRecord, Change, NewRun, Parent
from gateway.workflows.run import Attempt, Key, Row, State
from gateway.workflows.step import Command, Event, StartChild, Step, Submit

# Runs within runs. A definition may come to name itself, and each level may begin many: without an end that is too many
# runs for any manager.
MAX_DEPTH = 8
_ROW_BYTES = 500


def weight(state: State) -> int:
    """About how many bytes of memory a state takes."""
    return 2_000 + value_weight(state.input) + sum(_ROW_BYTES + value_weight(row.value) for row in state.rows.values())


def value_weight(value: object) -> int:
    """About how many bytes of memory a value takes."""
    return 0 if value is None else 3 * len(msgspec.json.encode(value))


class Folding:
    """Begins with the state that the store has."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.commands: list[Command] = []
        self.heard: list[int] = []
        self.grown_bytes = 0
        self._before = state.revision
        self._rows: dict[Key, Row] = {}
        self._attempts: dict[Attempt, AttemptRecord] = {}
        self._events: list[Event] = []

    def add(self, step: Step) -> None:
        """The next step; its revision follows that of the last one."""
        begun = {command.attempt for command in step.commands if isinstance(command, Submit | StartChild)}
        for attempt, change in step.attempts.items():
            before = self._attempts.get(attempt)
            new = attempt in begun or (before is not None and before.begun)
            self._attempts[attempt] = AttemptRecord(attempt, change.status, change.external, change.error, new)
        for key, row in step.rows.items():
            self.grown_bytes += value_weight(row.value) + (_ROW_BYTES if key not in self.state.rows else 0)
        self._rows.update(step.rows)
        self._events += step.events
        self.commands += step.commands
        self.state = step.state

    @property
    def is_empty(self) -> bool:
        """Nothing has to be stored."""
        return not self._events and not self.heard

    def change(self, epoch: int, account: str, depth: int, parent: Parent | None, now_ms: int) -> Change:
        """What has to be stored; `depth` is how deep the run is nested."""
        children = [
            self._child(command, account, depth, now_ms) for command in self.commands if isinstance(command, StartChild)
        ]
        return Change(
            self.state,
            epoch,
            self._before,
            self._rows,
            self._attempts,
            self._events,
            children,
            self.heard,
            parent,
            account,
        )

    def _child(self, command: StartChild, account: str, depth: int, now_ms: int) -> NewRun:
        parent = Parent(self.state.id, command.attempt)
        return NewRun(command.run, account, command.name, None, command.input, now_ms, None, parent, depth + 1)
