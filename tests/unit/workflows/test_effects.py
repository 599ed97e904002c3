"""Carrying out what was decided: accounts in turn, and nested runs told together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.errors import StoreError, UnstorableError
from gateway.workflows import effects
from gateway.workflows.definition import WORKFLOW
from gateway.workflows.effects import MAX_CANCELS, Effects
from gateway.workflows.names import child_run
from gateway.workflows.run import Attempt
from gateway.workflows.step import Stop, Submit
from tests.support.fake_clock import FakeClock

WITHIN_S = 10.0
BAD = child_run("r", Attempt("a", 1, 1))


class Store:
    """Keeps what it was told; `fails` is raised once each."""

    def __init__(self, *fails: Exception) -> None:
        self.told: list[list[str]] = []
        self.fails = list(fails)
        self.unstorable = ""

    async def signals_told(self, told: list[tuple[str, Any, Any]], now_ms: int) -> None:
        if self.fails:
            raise self.fails.pop()
        runs = [run for run, _, _ in told]
        if self.unstorable in runs:
            raise UnstorableError("cannot be kept")
        self.told.append(runs)

    @property
    def all(self) -> list[str]:
        return [run for told in self.told for run in told]


class Runner:
    """Notes whose attempts it was asked for; each takes a turn of the loop."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        self.asked.append(account)
        await asyncio.sleep(0)


class Work:
    """Effects while they are carried out."""

    def __init__(self, store: Store) -> None:
        self.runner = Runner()
        self.noticed = 0
        runners: Any = {"process": self.runner}
        given: Any = store
        self.effects = Effects(runners, given, FakeClock(), lambda run, what: None, self._notice, lambda: True)

    def _notice(self) -> None:
        self.noticed += 1

    async def done(self, *runs: str) -> None:
        """Carry out what there is of these."""
        task = asyncio.create_task(self.effects.run())
        async with asyncio.timeout(WITHIN_S):
            while any(self.effects.has(run) for run in runs):  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stops(count: int) -> list[Stop]:
    return [Stop(Attempt("a", number, 1), WORKFLOW, None, "enough") for number in range(count)]


async def test_what_one_account_asks_for_holds_up_no_other() -> None:
    work = Work(Store())
    work.effects.add("r", "crowd", [Submit(Attempt("a", number, 1), "process", {}) for number in range(500)])
    work.effects.add("s", "calm", [Submit(Attempt("a", 0, 1), "process", {})])
    await work.done("r", "s")
    assert work.runner.asked.index("calm") == 1
    assert len(work.runner.asked) == 501


async def test_nested_runs_are_told_of_their_end_together() -> None:
    store = Store()
    work = Work(store)
    work.effects.add("r", "acme", stops(2 * MAX_CANCELS + 5))
    await work.done("r")
    assert [len(told) for told in store.told] == [MAX_CANCELS, MAX_CANCELS, 5]
    assert store.all == [child_run("r", one.attempt) for one in stops(2 * MAX_CANCELS + 5)]
    assert work.noticed == 3


async def test_a_store_that_is_away_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "_PAUSE_S", 0.0)
    store = Store(StoreError("away"), StoreError("away"))
    work = Work(store)
    work.effects.add("r", "acme", stops(3))
    await work.done("r")
    assert store.all == [child_run("r", one.attempt) for one in stops(3)]


async def test_one_that_cannot_be_told_holds_up_no_other() -> None:
    store = Store()
    store.unstorable = BAD
    work = Work(store)
    work.effects.add("r", "acme", stops(4))
    await work.done("r")
    assert store.all == [run for one in stops(4) if (run := child_run("r", one.attempt)) != BAD]
