"""Definitions for tests, and a player that answers what a run asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.adapters.yaml_source import read_yaml
from gateway.workflows.advance import advance, loaded
from gateway.workflows.checks import Rules, check
from gateway.workflows.definition import Definition, compile_spec
from gateway.workflows.run import Attempt, Key, State
from gateway.workflows.spec import Spec
from gateway.workflows.step import Begin, Command, Failed, Finished, Happening, Kind, Proceed, Stop, Submit, Tick

START_MS = 1_800_000_000_000
ALLOWED = Rules(lambda runner, work: "", lambda name: "", lambda cron, zone: "")


def node(**fields: Any) -> dict[str, Any]:
    """A node of the process runner, unless `fields` say otherwise."""
    return fields if "workflow" in fields else {"run": {"process": {"command": ["true"]}}, **fields}


def definition(nodes: Mapping[str, Any], **fields: Any) -> Definition:
    """A definition that is not checked."""
    return compile_spec(msgspec.convert({"name": "test", "nodes": nodes, **fields}, Spec))


def from_yaml(text: str, rules: Rules = ALLOWED) -> Definition:
    """A checked definition. Raises DefinitionError."""
    return check(read_yaml(text), rules)


class Player:
    """One run in memory. Every step goes through what a store would keep of it when `reloading`."""

    def __init__(self, made: Definition, *, budget: int = 256, reloading: bool = False, **given: Any) -> None:
        self.definition = made
        self.state = State("run-1", made.spec.name, 1, given)
        self.now_ms = START_MS
        self.budget = budget
        self.reloading = reloading
        self.events: list[Any] = []
        self.commands: list[Command] = []
        self.open: dict[Key, Attempt] = {}

    def begin(self) -> Player:
        return self.tell(Begin())

    def tell(self, happening: Happening) -> Player:
        """Tell it, and go on until it wants no more."""
        while True:
            step = advance(self.definition, self.state, happening, self.now_ms, self.budget)
            assert step.state.revision == step.before + len(step.events)
            assert step.events or not (step.rows or step.attempts or step.commands), "a change without an event"
            self.state = self._kept(step.state)
            self.events += step.events
            self.commands += step.commands
            for command in step.commands:
                if isinstance(command, Stop | Proceed):
                    continue
                assert command.attempt.key not in self.open, "a second attempt while the first is open"
                self.open[command.attempt.key] = command.attempt
            if not step.more:
                return self
            happening = Tick()

    def _kept(self, state: State) -> State:
        if not self.reloading:
            return state
        bare = msgspec.structs.replace(state, active=frozenset(), pending=())
        return loaded(self.definition, bare)

    def finish(self, path: str, iteration: int = 0, value: Any = None) -> Player:
        return self.tell(Finished(self.open.pop(Key(path, iteration)), value))

    def fail(self, path: str, iteration: int = 0, error: str = "broken", **more: Any) -> Player:
        return self.tell(Failed(self.open.pop(Key(path, iteration)), error, **more))

    def wait(self, seconds: float) -> Player:
        self.now_ms += round(seconds * 1000)
        return self.tell(Tick())

    @property
    def asked(self) -> list[str]:
        """The attempts that are open: `load[2]` for the third item, `load` for the only one."""
        return sorted(str(key.path) if not key.iteration else f"{key.path}[{key.iteration}]" for key in self.open)

    def status(self, path: str, iteration: int = 0) -> str | None:
        row = self.state.rows.get(Key(path, iteration))
        return None if row is None else row.status.value

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events if event.kind is not Kind.PROGRESS]

    def work(self, path: str) -> Any:
        """What was last asked for."""
        return next(one.work for one in reversed(self.commands) if isinstance(one, Submit) and one.attempt.path == path)
