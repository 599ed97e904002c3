"""One call of `advance` while it is worked out: copies of what changes, and what comes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from gateway.workflows.definition import Definition
from gateway.workflows.run import WHOLE, Attempt, Key, Row, State
from gateway.workflows.states import ATTEMPT, NODE, RUN, AttemptStatus, RunStatus, follow, is_run_over
from gateway.workflows.step import AttemptChange, Command, Event, Kind, Step


class Turn:
    """`budget` is what is left of it; `rows`, `active` and `pending` are the state's, copied. `status` is where the run
    stands by now, `error` the first failure that counts."""

    def __init__(self, definition: Definition, state: State, now_ms: int, budget: int) -> None:
        self.definition = definition
        self.now_ms = now_ms
        self.budget = budget
        self.rows: dict[Key, Row] = dict(state.rows)
        self.active = set(state.active)
        self.commands: list[Command] = []
        self.status = state.status
        self.error = state.error
        self._before = state
        self._pending: deque[str] = deque(state.pending)
        self._fields: dict[str, Any] = {}
        self._touched: dict[Key, None] = {}
        self._attempts: dict[Attempt, AttemptChange] = {}
        self._events: list[Event] = []

    @property
    def run(self) -> str:
        """The run's id."""
        return self._before.id

    @property
    def started_ms(self) -> int | None:
        """When it was begun first."""
        started_ms: int | None = self._fields.get("started_ms", self._before.started_ms)
        return started_ms

    @property
    def deadline_ms(self) -> int | None:
        """By when it has to be over."""
        deadline_ms: int | None = self._fields.get("deadline_ms", self._before.deadline_ms)
        return deadline_ms

    @property
    def state(self) -> State:
        """The run by now, as expressions see it."""
        return replace(self._before, status=self.status, error=self.error, rows=self.rows, **self._fields)

    def result(self) -> Step:
        """What has come of it."""
        state = replace(
            self._before,
            status=self.status,
            error=self.error,
            rows=self.rows,
            revision=self._before.revision + len(self._events),
            active=frozenset(self.active),
            pending=tuple(self._pending),
            **self._fields,
        )
        rows = {key: self.rows[key] for key in self._touched}
        more = self.budget <= 0 and not is_run_over(self.status)
        return Step(state, self._before.revision, rows, self._attempts, self._events, self.commands, more)

    # Nodes that have to be looked at

    def look_at(self, names: Iterable[str]) -> None:
        """After all that are waiting already."""
        self._pending.extend(names)

    def look_first_at(self, name: str) -> None:
        """Before all others."""
        self._pending.appendleft(name)

    def next_name(self) -> str | None:
        """The next of them, as long as the budget lasts."""
        return self._pending.popleft() if self._pending and self.budget > 0 else None

    @property
    def is_idle(self) -> bool:
        """Nothing is at work, waits for a time, or has to be looked at."""
        return not self.active and not self._pending

    # Writing down

    def become(self, status: RunStatus) -> None:
        """The run's status; the table has to allow it."""
        self.status = follow(RUN, self.status, status)
        self._fields["ended_ms"] = self.now_ms if is_run_over(status) else None

    def note(self, **fields: Any) -> None:
        """Fields of the run's state, but for status and error."""
        self._fields.update(fields)

    def blame(self, error: str) -> None:
        """What failed counts; the first such error stays."""
        self.error = self.error or error

    def put(self, key: Key, row: Row) -> None:
        """A row; the table has to allow its status."""
        before = self.rows.get(key)
        if before is None or before.status is not row.status:
            follow(NODE, None if before is None else before.status, row.status)
        self.rows[key] = row
        self._touched[key] = None

    def phase(self, attempt: Attempt, phase: AttemptStatus, external: str | None, error: str | None = None) -> None:
        """Where an attempt stands, which is the last one of its row."""
        row = self.rows[attempt.key]
        follow(ATTEMPT, row.phase, phase)
        self.put(attempt.key, replace(row, phase=phase, external=external))
        self._attempts[attempt] = AttemptChange(phase, external, error)

    def tell(self, kind: Kind, at: Key | Attempt | None = None, **fields: Any) -> None:
        """Those who watch the run."""
        if at is None:
            self._events.append(Event(kind, **fields))
            return
        shown = at.iteration != WHOLE and at.path in self.definition.several
        iteration = at.iteration if shown else None
        number = at.number if isinstance(at, Attempt) else None
        self._events.append(Event(kind, at.path, iteration, number, **fields))
