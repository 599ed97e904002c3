"""What the workflow store promises, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.sql import tables
from gateway.adapters.sql.engine import make_engine, parse_url
from gateway.adapters.sql.mapping import NEW_RUN, new_run_row
from gateway.adapters.sql.schema import differences, migrate
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.adapters.sql.tables import metadata
from gateway.errors import AttemptTakenError, SchemaError, StoreError, UnstorableError
from gateway.workflows.advance import advance, loaded
from gateway.workflows.definition import Definition, digest, stored
from gateway.workflows.names import public_id
from gateway.workflows.records import (
    AttemptRecord,
    Change,
    Created,
    DueSchedule,
    Lease,
    NewRun,
    NotCreated,
    Owned,
    Parent,
    Sign,
    SignalKind,
)
from gateway.workflows.run import Attempt, Key, State
from gateway.workflows.step import Begin, Cancel, Failed, Finished, Happening, StartChild, Step, Submit
from tests.support.postgres import Postgres
from tests.support.workflows import START_MS, definition, node

ACCOUNT = "acme"
# By any clock.
PAST_MS = 1_750_000_000_000
TWO = definition({"a": node(retry={"max_attempts": 3, "wait_s": 60}), "b": node(needs=["a"])})


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/workflows.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        yield server.url()


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlWorkflowStore]:
    made = SqlWorkflowStore(parse_url(url))
    await made.open()
    yield made
    await made.close()


async def put(store: SqlWorkflowStore, made: Definition = TWO, account: str = ACCOUNT) -> int:
    spec = stored(made.spec)
    return (await store.put_definition(account, made.spec.name, spec, digest(spec), START_MS)).version


async def begun(store: SqlWorkflowStore, lease: Lease, run: str = "r1", **more: Any) -> tuple[Owned, State]:
    await store.create([NewRun(run, ACCOUNT, "test", None, {"day": "now"}, START_MS, **more)], lease.manager)
    return await load(store, lease, run)


async def load(store: SqlWorkflowStore, lease: Lease, run: str) -> tuple[Owned, State]:
    owned = next(one for one in await store.owned(lease) if one.id == run)
    ((found, detail),) = await store.load(lease, [owned])
    assert detail is not None
    return found, loaded(TWO, detail.state)


def change(step: Step, owned: Owned, **more: Any) -> Change:
    begins = {one.attempt for one in step.commands if isinstance(one, Submit | StartChild)}
    attempts = {
        attempt: AttemptRecord(attempt, one.status, one.external, one.error, attempt in begins)
        for attempt, one in step.attempts.items()
    }
    fields: dict[str, Any] = {"children": [], "heard": [], "parent": None, "account": ACCOUNT, **more}
    return Change(step.state, owned.epoch, step.before, step.rows, attempts, step.events, **fields)


async def play(
    store: SqlWorkflowStore, lease: Lease, owned: Owned, state: State, happening: Happening, **more: Any
) -> tuple[set[str], State]:
    step = advance(TWO, state, happening, START_MS)
    return await store.commit(lease, [change(step, owned, **more)], START_MS), step.state


async def test_the_migrated_schema_is_the_declared_one(url: str) -> None:
    engine = make_engine(parse_url(url))
    assert await migrate(engine)
    assert not await migrate(engine)
    async with engine.begin() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_a_program_runs_on_a_newer_schema_that_lets_it(url: str) -> None:
    """A deploy that is rolled back starts programs of before on what the new ones have migrated."""
    engine = make_engine(parse_url(url))
    await migrate(engine)
    async with engine.begin() as connection:
        for statement in (
            "CREATE TABLE later (id INTEGER)",
            "ALTER TABLE run ADD COLUMN later TEXT",
            "ALTER TABLE node ADD COLUMN later BIGINT DEFAULT 7 NOT NULL",
            "CREATE INDEX ix_run_later ON run (later)",
            "UPDATE alembic_version SET version_num = '9998'",
        ):
            await connection.exec_driver_sql(statement)
    store = SqlWorkflowStore(parse_url(url))
    await store.open()
    await put(store)
    lease = await store.register("m", "i", 30)
    owned, state = await begun(store, lease)
    for happening in (Begin(), Finished(Attempt("a", 0, 1), {}), Finished(Attempt("b", 0, 1), {})):
        stored_runs, state = await play(store, lease, owned, state, happening)
        assert stored_runs == {"r1"}
    assert state.status == "ok"
    await store.close()
    async with engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE usable SET since = '9998'")
    with pytest.raises(SchemaError, match="schema 9998"):
        await migrate(engine)
    await engine.dispose()


async def test_what_the_first_schema_held_is_there_in_the_newest(url: str) -> None:
    engine = make_engine(parse_url(url))
    assert await migrate(engine, "0001")
    rows = {
        "definition": {"account": "a", "name": "n", "version": 1, "spec": "{}", "sha256": "x", "created_ms": 2**40},
        "run": dict(zip(NEW_RUN, new_run_row(NewRun("r", "a", "n", 1, {"x": "ü"}, 7, "k"), 1, "m"), strict=True)),
        "node": {"run": "r", "path": "p", "iteration": -1, "status": "ok", "body": "{}"},
        "event": {"run": "r", "revision": 1, "time_ms": 3, "kind": "run_started", "body": "{}"},
    }
    async with engine.begin() as connection:
        for name, row in rows.items():
            await connection.execute(metadata.tables[name].insert().values(**row))
    assert await migrate(engine)
    async with engine.begin() as connection:
        assert await connection.run_sync(differences) == []
        for name, row in rows.items():
            found = (await connection.execute(metadata.tables[name].select())).mappings().one()
            assert {key: found[key] for key in row} == row
    await engine.dispose()


async def test_definitions_have_versions_of_their_account(store: SqlWorkflowStore) -> None:
    other = definition({"a": node()})
    assert [await put(store), await put(store), await put(store, other), await put(store)] == [1, 1, 2, 3]
    assert await put(store, other, "umbrella") == 1
    newest = await store.definition(ACCOUNT, "test")
    second = await store.definition(ACCOUNT, "test", 2)
    assert newest is not None
    assert second is not None
    assert (newest.version, newest.spec, second.spec) == (3, stored(TWO.spec), stored(other.spec))
    assert await store.definition("nobody", "test") is None
    assert await store.definition(ACCOUNT, "test", 9) is None
    assert [one.version for one in await store.definitions(ACCOUNT, "", 10)] == [3]
    assert await store.definitions(ACCOUNT, "test", 10) == []


async def test_a_run_without_a_key_is_itself_when_it_is_stored_again(store: SqlWorkflowStore) -> None:
    await put(store)
    runs = [NewRun(run, ACCOUNT, "test", None, {}, START_MS) for run in ("r1", "r2")]
    expected = [Created("r1", True, 1), Created("r2", True, 1)]
    assert await store.create(runs, None) == expected
    # The answer was lost: whoever gathers the next transaction asks once more.
    assert await store.create(runs, None) == expected


async def test_a_run_is_one_for_its_key(store: SqlWorkflowStore) -> None:
    await put(store)
    await put(store, account="umbrella")
    first = NewRun("r1", ACCOUNT, "test", None, {}, START_MS, key="k")
    second = first._replace(id="r2")
    assert await store.create([first, second], None) == [Created("r1", True, 1), Created("r1", False, 1)]
    assert await store.create([second], None) == [Created("r1", False, 1)]
    assert await store.create([first], None) == [Created("r1", True, 1)]
    others = [first._replace(id="r3", account="umbrella"), first._replace(id="r4", key=None)]
    missing = first._replace(id="r5", name="nothing")
    assert await store.create([missing, *others], None) == [
        NotCreated.NO_DEFINITION,
        Created("r3", True, 1),
        Created("r4", True, 1),
    ]
    assert [one.id for one in await store.runs(ACCOUNT, None, None, 9)] == ["r4", "r1"]
    assert [one.id for one in await store.runs(ACCOUNT, "queued", "r4", 9)] == ["r1"]
    assert await store.run("umbrella", "r1") is None
    assert await store.events("umbrella", "r1", 0, 9) is None


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


async def at_work(store: SqlWorkflowStore) -> tuple[Lease, Owned, State, str]:
    """A run whose node `a` is at work, and the public id of its attempt."""
    await put(store)
    lease = await store.register("m1", "i1", 30)
    owned, state = await begun(store, lease)
    _, state = await play(store, lease, owned, state, Begin())
    return lease, owned, state, public_id("r1", Attempt("a", 0, 1))


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


async def test_the_list_of_runs_has_a_line_for_each_transition_without_a_gap(store: SqlWorkflowStore) -> None:
    await put(store)
    lease = await store.register("m1", "i1", 30)
    changes = []
    states = {}
    for number in range(5):
        owned, state = await begun(store, lease, f"r{number}")
        step = advance(TWO, state, Begin(), START_MS)
        states[owned.id] = (owned, step.state)
        changes.append(change(step, owned, **({"account": "other"} if number == 4 else {})))
    await store.commit(lease, changes, START_MS)
    for owned, state in list(states.values())[:2]:
        await play(store, lease, owned, state, Cancel("enough"))
    found, kept_after, newest = await store.lines(ACCOUNT, 0, 100)
    assert [record.number for record in found] == [1, 2, 3, 4, 5, 6]
    assert (kept_after, newest) == (0, 6)
    assert [record.line.status for record in found] == ["running"] * 4 + ["cancelling"] * 2
    assert found[4].line.error == "enough"
    assert [record.number for record in (await store.lines(ACCOUNT, 4, 1))[0]] == [5]
    # Each account has its own list.
    assert [record.line.run for record in (await store.lines("other", 0, 100))[0]] == ["r4"]
    assert await store.newest_lines([ACCOUNT, "other", "nobody"]) == [6, 1, 0]
    assert await store.lines("nobody", 0, 100) == ([], 0, 0)


async def test_a_nested_run_has_no_line(store: SqlWorkflowStore) -> None:
    await put(store)
    lease = await store.register("m1", "i1", 30)
    owned, state = await begun(store, lease)
    parent = Parent("r0", Attempt("a", 0, 1))
    await play(store, lease, owned, state, Begin(), parent=parent)
    assert await store.lines(ACCOUNT, 0, 100) == ([], 0, 0)


async def test_old_lines_go_from_the_oldest_on(store: SqlWorkflowStore) -> None:
    await put(store)
    lease = await store.register("m1", "i1", 30)
    # The clocks of managers differ: the second line is the oldest one.
    for number, time_ms in enumerate((5_000, 1_000, 9_000)):
        owned, state = await begun(store, lease, f"r{number}")
        await store.commit(lease, [change(advance(TWO, state, Begin(), START_MS), owned)], time_ms)
    await store.delete_lines(2_000)
    found, kept_after, newest = await store.lines(ACCOUNT, 0, 100)
    assert ([record.number for record in found], kept_after, newest) == ([3], 2, 3)
    await store.delete_lines(10_000)
    assert await store.lines(ACCOUNT, 0, 100) == ([], 3, 3)


async def test_a_page_of_events_comes_with_the_revision_of_its_run(store: SqlWorkflowStore) -> None:
    _, _, state, _ = await at_work(store)
    page = await store.page(ACCOUNT, "r1", 1, 100)
    assert page is not None
    assert ([record.revision for record in page[0]], page[1]) == ([*range(2, state.revision + 1)], state.revision)
    assert await store.page(ACCOUNT, "r1", 99, 100) == ([], state.revision)
    assert await store.page("other", "r1", 0, 100) is None


async def test_a_schedule_is_due_when_its_time_has_come(store: SqlWorkflowStore) -> None:
    spec = stored(TWO.spec)
    for name, next_ms in (("late", PAST_MS + 2), ("none", None), ("early", PAST_MS + 1), ("later", PAST_MS + 9)):
        await store.put_definition(ACCOUNT, name, spec, digest(spec), PAST_MS, next_ms)
    due = await store.due_schedules(PAST_MS + 2, 9)
    assert due == [DueSchedule(ACCOUNT, name, PAST_MS, PAST_MS + 2) for name in ("early", "late")]
    assert await store.due_schedules(PAST_MS + 2, 1) == due[:1]
    await store.move_schedule(due[0], PAST_MS + 1, PAST_MS + 5)
    # Somebody else has moved it.
    await store.move_schedule(due[0], PAST_MS + 1, None)
    await store.move_schedule(due[1], PAST_MS + 2, None)
    assert [one.name for one in await store.due_schedules(PAST_MS + 5, 9)] == ["early"]


async def test_a_clock_that_is_ahead_begins_nothing_early(store: SqlWorkflowStore, url: str) -> None:
    """With SQLite there is no second clock."""
    spec = stored(TWO.spec)
    now_ms = round(time.time() * 1000)
    await store.put_definition(ACCOUNT, "past", spec, digest(spec), PAST_MS, now_ms - 60_000)
    await store.put_definition(ACCOUNT, "tomorrow", spec, digest(spec), PAST_MS, now_ms + 43_200_000)
    own = url.startswith("postgresql")
    due = await store.due_schedules(now_ms + 86_400_000, 9)
    assert [one.name for one in due] == (["past"] if own else ["past", "tomorrow"])
    assert abs(due[0].now_ms - (now_ms if own else now_ms + 86_400_000)) < 60_000
