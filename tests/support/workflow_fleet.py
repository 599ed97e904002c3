"""Gateways, managers and rebalancers as processes on one PostgreSQL, and the ledger that their jobs write."""

from __future__ import annotations

import json
import urllib.error
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.acceptance.test_workflows import ON, Caller
from tests.support.program import Program, eventually


class Fleet:
    """Each process has a folder of its own; `stack` ends them."""

    def __init__(self, path: Path, url: str, stack: ExitStack, *settings: str) -> None:
        self._path = path
        self._stack = stack
        self._settings = (*ON, f"workflows.store_url={url}", *settings)
        self._count = 0

    def start(self, roles: str, *settings: str) -> Program:
        self._count += 1
        folder = self._path / f"{roles.replace(',', '-')}-{self._count}"
        program = Program(folder, *self._settings, *settings, options=("--roles", roles))
        return self._stack.enter_context(program)


class Ledger:
    """A file outside, into which each job writes a line when it begins and one when it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self.marks = path.with_name(f"{path.name}-marks")
        self.marks.mkdir()

    def definition(self, name: str, items: int, pause: str = "0.2") -> str:
        """`first`, then items, then `last`. With the input `flaky` "true", the first attempt of `first` fails."""
        line = 'echo "{} $HEIWA_NODE $HEIWA_ITERATION $HEIWA_RUN $HEIWA_ATTEMPT" >> "$LEDGER"'
        script = (
            f"{line.format('begin')}; sleep {pause}; "
            'if [ "$FLAKY" = true ] && mkdir "$MARKS/$HEIWA_RUN" 2>/dev/null; '
            f'then {line.format("fail")}; exit 1; fi; {line.format("end")}; echo "{{}}"'
        )
        environment = {"LEDGER": str(self.path), "MARKS": str(self.marks)}
        retry = {"max_attempts": 9, "wait_s": 1, "backoff": 1}
        work = {"process": {"command": ["sh", "-c", script], "environment": {**environment, "FLAKY": "false"}}}
        flaky = {
            "process": {"command": ["sh", "-c", script], "environment": {**environment, "FLAKY": "${input.flaky}"}}
        }
        each = {"items": list(range(items)), "max_parallel": 2}
        nodes = {
            "first": {"run": flaky, "retry": retry},
            "each": {"needs": ["first"], "run": work, "for_each": each, "retry": retry},
            "last": {"needs": ["each"], "run": work, "retry": retry},
        }
        return json.dumps({"name": name, "nodes": nodes})

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.path.read_text().splitlines()]

    def count(self, what: str, run: str = "") -> int:
        return sum(1 for line in self.lines() if line[0] == what and run in ("", line[3]))

    def judge(self, runs: list[str], items: int) -> Counter[str]:
        """Nothing was done twice, nothing is missing, and all in order. How many lines of each kind there are."""
        lines = self.lines()
        attempts = Counter((line[0], line[4]) for line in lines)
        twice = {key: count for key, count in attempts.items() if count > 1}
        assert not twice, f"done twice: {twice}"
        at = {(line[0], line[1], line[2], line[3]): number for number, line in enumerate(lines)}
        ends = Counter((line[1], line[2], line[3]) for line in lines if line[0] == "end")
        wanted = [("first", "0"), *(("each", str(number)) for number in range(items)), ("last", "0")]
        for run in runs:
            for node, item in wanted:
                assert ends[node, item, run] == 1, f"{node}[{item}] of {run} ended {ends[node, item, run]} times"
            firsts = [at["begin", "each", str(number), run] for number in range(items)]
            lasts = [at["end", "each", str(number), run] for number in range(items)]
            assert at["end", "first", "0", run] < min(firsts), f"{run}: items did not wait"
            assert max(lasts) < at["begin", "last", "0", run], f"{run}: the last did not wait"
        return Counter(line[0] for line in lines)


def persistent(call: Any, within_s: float = 60.0) -> Any:
    """What a client does whose server may be away: the same again, until there is an answer."""
    found: list[Any] = []

    def tried() -> bool:
        try:
            found.append(call())
        except (OSError, urllib.error.URLError, ValueError):
            return False
        return True

    eventually(tried, within_s, "no answer")
    return found[0]


def runs_of(managers: list[Program]) -> list[int]:
    """How many runs each has."""
    return [int(manager.metrics()["heiwa_workflow_runs"]) for manager in managers]


def history(caller: Caller, run: str) -> list[dict[str, Any]]:
    """All events of a run; fails where one is missing."""
    events: list[dict[str, Any]] = []
    while True:
        page = caller.call("GET", f"/api/v1/workflows/{run}/events?limit=1000&after={len(events)}")["events"]
        if not page:
            break
        events += page
    assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
    return events


__all__ = ["Caller", "Fleet", "Ledger", "history", "persistent", "runs_of"]
