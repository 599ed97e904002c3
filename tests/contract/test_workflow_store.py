"""What the workflow store promises to its callers, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import time

from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.workflows.advance import advance
from gateway.workflows.definition import digest, stored
from gateway.workflows.records import (
    Created,
    DueSchedule,
    NewRun,
    NotCreated,
    Parent,
)
from gateway.workflows.run import Attempt
from gateway.workflows.step import Begin, Cancel
from tests.support.workflow_stores import ACCOUNT, TWO, at_work, begun, change, play, put
from tests.support.workflows import START_MS, definition, node

# By any clock.
PAST_MS = 1_750_000_000_000


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
