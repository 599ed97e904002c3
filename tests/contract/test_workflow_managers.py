"""What the workflow store promises to managers and to jobs, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.adapters.sql import tables
from gateway.adapters.sql.engine import make_engine, parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.adapters.sql.tables import metadata
from gateway.errors import AttemptTakenError, StoreError, UnstorableError
from gateway.workflows.advance import advance, loaded
from gateway.workflows.records import (
    Lease,
    NewRun,
    Owned,
    Parent,
    Sign,
    SignalKind,
)
from gateway.workflows.run import Attempt, Key
from gateway.workflows.step import Begin, Cancel, Failed, Finished, StartChild
from tests.support.workflow_stores import ACCOUNT, TWO, at_work, begun, change, load, play, put
from tests.support.workflows import START_MS


async def test_what_was_committed_is_loaded_again(store: SqlWorkflowStore) -> None:
    await put(store)
    lease = await store.register("m", "one", 30)
    owned, state = await begun(store, lease)
    assert state.input == {"day": "now"}
    for happening in (Begin(), Failed(Attempt("a", 0, 1), "böse\n"), Cancel("why"), None):
        again = await store.run(ACCOUNT, "r1")
        assert again is not None
        assert loaded(TWO, again.state) == loaded(TWO, state)
        if happening is not None:
            done, state = await play(store, lease, owned, state, happening)
            assert done == {"r1"}
    events = await store.events(ACCOUNT, "r1", 1, 3)
    assert events is not None
    assert [(one.revision, one.event.kind.value) for one in events] == [
        (2, "attempt_started"),
        (3, "node_waiting"),
        (4, "run_cancelling"),
    ]
    assert await store.owned(lease) == []


async def test_a_run_that_cannot_be_read_stands_and_the_others_go_on(store: SqlWorkflowStore, url: str) -> None:
    await put(store)
    lease = await store.register("m", "one", 30)
    for name in ("bad", "good"):
        owned, state = await begun(store, lease, name)
        await play(store, lease, owned, state, Begin())
    engine = make_engine(parse_url(url))
    async with engine.begin() as connection:
        broken = tables.node.update().where(tables.node.c.run == "bad").values(body='{"external": 7}')
        await connection.execute(broken)
    await engine.dispose()
    found = await store.load(lease, await store.owned(lease))
    assert {owned.id: detail is not None for owned, detail in found} == {"good": True, "bad": False}
    with pytest.raises(StoreError, match="the run bad cannot be read"):
        await store.run(ACCOUNT, "bad")


async def test_those_at_work_are_told_from_those_that_wait(store: SqlWorkflowStore) -> None:
    await put(store)
    lease = await store.register("m", "one", 30)
    for run in ("r1", "r2", "r3"):
        owned, state = await begun(store, lease, run)
        if run != "r1":
            _, state = await play(store, lease, owned, state, Begin())
        if run == "r3":
            await play(store, lease, owned, state, Failed(Attempt("a", 0, 1), "x"))
    assert await store.at_work(lease) == {"r2"}
    assert [one.wake_ms is not None for one in await store.owned(lease)] == [False, False, True]


async def test_values_come_back_as_they_were(store: SqlWorkflowStore) -> None:
    await put(store)
    lease = await store.register("m", "one", 30)
    owned, state = await begun(store, lease)
    _, state = await play(store, lease, owned, state, Begin())
    value = {"text": "π \u0000 \\u0000 \"'", "large": 2**80, "small": 1e-300, "list": [None, True, {}], "": {"a": []}}
    await play(store, lease, owned, state, Finished(Attempt("a", 0, 1), value))
    again = await store.run(ACCOUNT, "r1")
    assert again is not None
    assert again.state.rows[Key("a")].value == value


@pytest.mark.parametrize("what", ["epoch", "revision", "fence", "manager"])
async def test_who_does_not_own_a_run_writes_nothing_of_it(store: SqlWorkflowStore, what: str) -> None:
    await put(store)
    lease = await store.register("m", "one", 30)
    owned, state = await begun(store, lease)
    other, second = await begun(store, lease, "r2")
    stale = {
        "epoch": (lease, owned._replace(epoch=0), state),
        "revision": (lease, owned, state),
        "fence": (lease._replace(fence=lease.fence - 1), owned, state),
        "manager": (lease._replace(manager="other"), owned, state),
    }
    if what == "revision":
        await play(store, lease, owned, state, Begin())
    before = await store.run(ACCOUNT, "r1")
    held, mine, known = stale[what]
    steps = [
        change(advance(TWO, known, Begin(), START_MS), mine),
        change(advance(TWO, second, Begin(), START_MS), other),
    ]
    done = await store.commit(held, steps, START_MS)
    assert done == (set() if what in ("fence", "manager") else {"r2"})
    assert await store.run(ACCOUNT, "r1") == before


async def test_a_new_life_takes_the_runs_of_the_old_one(store: SqlWorkflowStore) -> None:
    await put(store)
    old = await store.register("m", "one", 30)
    owned, state = await begun(store, old)
    new = await store.register("m", "two", 30)
    assert new.fence == old.fence + 1
    assert (await play(store, old, owned, state, Begin()))[0] == set()
    assert await store.load(new, [owned]) == []
    again, known = await load(store, new, "r1")
    assert again.epoch == owned.epoch + 1
    assert (await play(store, new, again, known, Begin()))[0] == {"r1"}


async def test_runs_of_nobody_are_claimed_once(store: SqlWorkflowStore) -> None:
    await put(store)
    leases = [await store.register(name, "one", 30) for name in "ab"]
    for number in range(20):
        await store.create([NewRun(f"r{number:02}", ACCOUNT, "test", None, {}, START_MS)], None)
    assert await store.claim(leases[0]._replace(fence=0), 6) == []
    taken = await asyncio.gather(*(store.claim(lease, 6) for lease in leases * 2))
    ids = [one.id for part in taken for one in part]
    assert len(set(ids)) == len(ids)
    while rest := await store.claim(leases[0], 6):
        ids += [one.id for one in rest]
    assert sorted(ids) == [f"r{number:02}" for number in range(20)]


async def test_those_that_nobody_has_begun_are_found_by_their_manager(store: SqlWorkflowStore) -> None:
    await put(store)
    lease, other = await store.register("m", "one", 30), await store.register("other", "one", 30)
    owned = [await begun(store, lease, run) for run in ("r1", "r2", "r3")]
    assert await store.queued(lease, 2) == [Owned("r1", ACCOUNT, 1, None), Owned("r2", ACCOUNT, 1, None)]
    assert await store.queued(lease, 2, {"r1", "r4"}) == [Owned("r2", ACCOUNT, 1, None), Owned("r3", ACCOUNT, 1, None)]
    assert await store.queued(other, 9) == []
    await play(store, lease, *owned[0], Begin())
    await play(store, lease, *owned[1], Cancel("no"))
    assert await store.queued(lease, 9) == [Owned("r3", ACCOUNT, 1, None)]


async def test_signals_are_heard_once_and_only_by_the_manager(store: SqlWorkflowStore) -> None:
    await put(store)
    lease = await store.register("m", "one", 30)
    owned, state = await begun(store, lease)
    await store.signal("r1", SignalKind.REPORT, {"percent": 5}, START_MS)
    await store.signal("r1", SignalKind.CANCEL, "enough", START_MS)
    heard = await store.signals(lease, 9)
    assert [(one.id, signal.kind, signal.body) for one, signal in heard] == [
        ("r1", "report", {"percent": 5}),
        ("r1", "cancel", "enough"),
    ]
    assert await store.signals(lease._replace(manager="other"), 9) == []
    assert await store.signals(lease, 9, {"r2"}) == heard
    assert await store.signals(lease, 9, {"r1", "r2"}) == []
    await play(store, lease, owned._replace(epoch=0), state, Begin(), heard=[heard[0][1].id])
    assert len(await store.signals(lease, 9)) == 2
    await play(store, lease, owned, state, Begin(), heard=[heard[0][1].id])
    (left,) = await store.signals(lease, 9)
    assert left[1].kind == "cancel"
    # A number is never given twice, although the largest one is free.
    _, state = await load(store, lease, "r1")
    await play(store, lease, owned, state, Cancel(), heard=[left[1].id])
    await store.signal("r1", SignalKind.RESUME, None, START_MS)
    assert (await store.signals(lease, 9))[0][1].id > left[1].id


async def test_an_attempt_begins_once_whoever_tries(store: SqlWorkflowStore) -> None:
    await put(store)
    lease = await store.register("m", "one", 30)
    owned, state = await begun(store, lease)
    _, state = await play(store, lease, owned, state, Begin())
    again = change(advance(TWO, state, Failed(Attempt("a", 0, 1), "x"), START_MS), owned)
    twice = {one: record._replace(begun=True) for one, record in again.attempts.items()}
    with pytest.raises(AttemptTakenError):
        await store.commit(lease, [again._replace(attempts=twice)], START_MS)
    unchanged = await store.run(ACCOUNT, "r1")
    assert unchanged is not None
    assert unchanged.state.revision == state.revision


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_what_cannot_be_kept_is_told_from_a_store_that_is_away(store: SqlWorkflowStore) -> None:
    await put(store)
    lease = await store.register("m", "one", 30)
    owned, state = await begun(store, lease)
    _, state = await play(store, lease, owned, state, Begin())
    failed = change(advance(TWO, state, Failed(Attempt("a", 0, 1), "x"), START_MS), owned)
    for error in ("U+0000: \0", "half of a pair: \ud800"):
        attempts = {one: record._replace(error=error) for one, record in failed.attempts.items()}
        with pytest.raises(UnstorableError):
            await store.commit(lease, [failed._replace(attempts=attempts)], START_MS)
    assert await store.commit(lease, [failed], START_MS) == {"r1"}


@pytest.mark.parametrize("name", ["test", "nothing"])
async def test_a_nested_run_begins_and_ends_with_its_parent_told(store: SqlWorkflowStore, name: str) -> None:
    await put(store)
    lease = await store.register("m", "one", 30)
    owned, state = await begun(store, lease)
    attempt = Attempt("a", 0, 1)
    begin = StartChild(attempt, "child", name, {"x": 1})
    child = NewRun(begin.run, ACCOUNT, name, None, begin.input, START_MS, None, Parent("r1", attempt), 1)
    await play(store, lease, owned, state, Begin(), children=[child, child])
    if name == "nothing":
        assert {(signal.run, signal.kind) for _, signal in await store.signals(lease, 9)} == {("r1", "child")}
        return
    assert [one.id for one in await store.queued(lease, 9)] == ["child"]
    detail = await store.run(ACCOUNT, "child")
    assert detail is not None
    assert detail.parent == child.parent
    known, inner = await load(store, lease, "child")
    await play(store, lease, known, inner, Cancel("no"), parent=detail.parent)
    told = [signal for _, signal in await store.signals(lease, 9) if signal.run == "r1" and signal.kind == "child"]
    assert [(one.body["status"], one.body["attempt"]) for one in told] == [("cancelled", ["a", 0, 1])]


async def test_a_manager_that_retires_leaves_its_runs_at_once(store: SqlWorkflowStore) -> None:
    await put(store)
    lease, other = await store.register("m", "one", 30), await store.register("other", "one", 30)
    await begun(store, lease)
    await store.retire(lease)
    assert not await store.heartbeat(lease, 30, Sign(1))
    assert [one.id for one in await store.claim(other, 9)] == ["r1"]
    # A second time it takes nothing away from who has them.
    await store.retire(lease)
    assert [one.id for one in await store.owned(other)] == ["r1"]


async def test_managers_that_are_gone_for_long_are_forgotten(store: SqlWorkflowStore) -> None:
    for name in ("old", "young"):
        await store.retire(await store.register(name, "one", 30))
    alive = await store.register("alive", "one", 30)
    found = metadata.tables["manager"]
    async with store.unit("test") as connection:
        await connection.execute(found.update().where(found.c.id != "young").values(lease_until_ms=0))
    await store.register("new", "one", 30)
    async with store.unit("test") as connection:
        assert set((await connection.execute(found.select())).scalars()) == {"young", "alive", "new"}
    assert await store.heartbeat(alive, 30, Sign(1))


async def reports(store: SqlWorkflowStore, lease: Lease) -> list[Any]:
    return [signal.body for _, signal in await store.signals(lease, 100) if signal.kind is SignalKind.REPORT]


async def test_the_key_of_jobs_is_made_once(store: SqlWorkflowStore) -> None:
    key = await store.job_key()
    assert len(key) == 32
    assert await store.job_key() == key


async def test_of_two_jobs_of_one_attempt_one_begins(store: SqlWorkflowStore) -> None:
    lease, _, _, public = await at_work(store)
    found = await asyncio.gather(*(store.start_attempt(public, f"job-{number}", START_MS) for number in range(8)))
    winners = {one.starter for one in found if one is not None}
    assert len(winners) == 1
    assert len(await reports(store, lease)) == 1
    winner = winners.pop()
    again = await store.start_attempt(public, winner or "", START_MS)
    assert again is not None
    assert again.starter == winner
    assert len(await reports(store, lease)) == 1
    assert await store.start_attempt("0" * 32, "job", START_MS) is None


async def test_how_an_attempt_ended_is_told_once_and_by_its_job(store: SqlWorkflowStore) -> None:
    lease, owned, state, public = await at_work(store)
    await store.start_attempt(public, "job-1", START_MS)
    assert not await store.end_attempt(public, "job-2", {"ok": False}, START_MS)
    assert not await store.end_attempt(public, None, {"ok": False}, START_MS)
    told = await asyncio.gather(*(store.end_attempt(public, "job-1", {"ok": True}, START_MS) for _ in range(4)))
    assert sorted(told) == [False, False, False, True]
    assert [body for body in await reports(store, lease) if "ok" in body] == [{"attempt": ["a", 0, 1], "ok": True}]
    # Its manager has an outcome: what comes later is no outcome.
    await play(store, lease, owned, state, Failed(Attempt("a", 0, 1), "lost", lost=True))
    found = await store.attempt(public)
    assert found is not None
    assert found.over


async def test_no_job_begins_what_was_told_to_stop(store: SqlWorkflowStore) -> None:
    lease, owned, state, public = await at_work(store)
    await play(store, lease, owned, state, Cancel())
    found = await store.start_attempt(public, "job-1", START_MS)
    assert found is not None
    assert (found.starter, found.wanted, found.over) == (None, False, False)
    # A result that still comes is kept.
    assert await store.end_attempt(public, None, {"ok": True}, START_MS)
