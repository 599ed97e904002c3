"""How many live runs an account may have, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.adapters.sql import quota
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.workflows.records import Created, Lease, NewRun, NotCreated, Parent
from gateway.workflows.run import Attempt
from gateway.workflows.step import Begin, Cancel
from tests.support.workflow_stores import ACCOUNT, load, play, put
from tests.support.workflows import START_MS

LIVE_RUNS = 8
LATER_MS = START_MS + 20_000


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlWorkflowStore]:
    made = SqlWorkflowStore(parse_url(url), live_runs=LIVE_RUNS)
    await made.open()
    for account in (ACCOUNT, "umbrella"):
        await put(made, account=account)
    yield made
    await made.close()


def new(name: str, account: str = ACCOUNT, now_ms: int = START_MS, key: str | None = None) -> NewRun:
    return NewRun(name, account, "test", None, {}, now_ms, key)


async def asked(store: SqlWorkflowStore, *news: NewRun) -> list[bool]:
    """Whether each was stored."""
    return [isinstance(one, Created) for one in await store.create(news, "m")]


async def ended(store: SqlWorkflowStore, lease: Lease, run: str) -> None:
    owned, state = await load(store, lease, run)
    assert (await play(store, lease, owned, state, Cancel("no")))[0] == {run}


async def test_more_runs_than_an_account_may_have_do_not_begin(store: SqlWorkflowStore) -> None:
    lease = await store.register("m", "one", 30)
    news = [new(f"r{number}") for number in range(LIVE_RUNS + 2)]
    assert await asked(store, *news) == [True] * LIVE_RUNS + [False] * 2
    assert (await store.create([new("more")], "m")) == [NotCreated.TOO_MANY]
    assert await asked(store, new("theirs", "umbrella"))
    await ended(store, lease, "r1")
    assert await asked(store, new("r8", now_ms=LATER_MS), new("r9", now_ms=LATER_MS)) == [True, False]


async def test_a_run_that_is_there_is_found_by_whoever_asks_again(store: SqlWorkflowStore) -> None:
    await asked(store, new("r0", key="k"), *(new(f"r{number}") for number in range(1, LIVE_RUNS)))
    assert await store.create([new("other", key="k")], "m") == [Created("r0", new=False, version=1)]
    assert await store.create([new("r3")], "m") == [Created("r3", new=True, version=1)]


@pytest.mark.parametrize("runs_at_once", [1, 3])
async def test_one_by_one_no_more_begin_than_together(store: SqlWorkflowStore, runs_at_once: int) -> None:
    begun = 0
    for first in range(0, 4 * LIVE_RUNS, runs_at_once):
        begun += sum(await asked(store, *(new(f"r{first + number}") for number in range(runs_at_once))))
    assert begun == LIVE_RUNS


async def test_two_managers_count_what_the_other_has_begun(url: str, store: SqlWorkflowStore) -> None:
    other = SqlWorkflowStore(parse_url(url), live_runs=LIVE_RUNS)
    await other.open()
    begun = 0
    for number in range(2 * LIVE_RUNS):
        for one, place in ((store, 0), (other, 1)):
            begun += sum(await asked(one, new(f"r{number}-{place}", now_ms=START_MS + 11_000 * number)))
    await other.close()
    assert begun == LIVE_RUNS


async def test_a_nested_run_that_is_one_too_many_fails_its_attempt(store: SqlWorkflowStore) -> None:
    lease = await store.register("m", "one", 30)
    await asked(store, new("r0"))
    attempts = [Attempt("a", number, 1) for number in range(LIVE_RUNS)]
    children = [
        NewRun(f"c{attempt.iteration}", ACCOUNT, "test", None, {}, START_MS, None, Parent("r0", attempt), 1)
        for attempt in attempts
    ]
    owned, state = await load(store, lease, "r0")
    await play(store, lease, owned, state, Begin(), children=children)
    assert len(await store.queued(lease, 99)) == LIVE_RUNS - 1
    ((_, told),) = await store.signals(lease, 99)
    assert (told.run, told.body["attempt"], told.body["status"]) == ("r0", ["a", LIVE_RUNS - 1, 1], None)
    assert f"{LIVE_RUNS} live runs" in told.body["error"]
    assert told.body["again"]


async def test_what_is_known_of_accounts_is_bounded(store: SqlWorkflowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "_MAX_KNOWN", 4)
    for number in range(20):
        await put(store, account=f"a{number}")
        assert await asked(store, new(f"r{number}", f"a{number}")) == [True]
    assert len(store._quota._known) <= 6
