"""What other workflow engines got wrong, tried on ours: the real manager and store, with jobs that tests end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from gateway.adapters import cron
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.errors import UnstorableError
from gateway.workflows import manager
from gateway.workflows.names import public_id
from gateway.workflows.records import Changes, Lease, NewRun, SignalKind
from gateway.workflows.retention import Retention
from gateway.workflows.run import Key
from gateway.workflows.schedule import ms_of
from gateway.workflows.scheduler import Scheduler
from gateway.workflows.service import RunRefusedError
from gateway.workflows.step import Failed, Finished
from tests.support.fake_clock import FakeClock
from tests.support.workflow_engine import Engine, first

PLAIN = """\
name: {name}
nodes:
  a: {{run: {{process: {{command: [x]}}}}{more}}}
  b: {{needs: [a], run: {{process: {{command: [x]}}}}}}
"""


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    made = await Engine(tmp_path).begin()
    yield made
    await made.kill()


async def test_a_run_that_was_cancelled_in_its_backoff_begins_nothing(engine: Engine) -> None:
    # hatchet 4900, temporal sdk-php 625: cancelled while it waited, also while no manager was there.
    await engine.put(PLAIN.format(name="x", more=", retry: {max_attempts: 5, wait_s: 60}"))
    run = await engine.run("x")
    await engine.jobs.until(engine.asked, first("a"))
    engine.jobs.report(run, Failed(first("a"), "no"))
    await engine.until(run, lambda found: found.state.rows[Key("a")].status == "waiting")
    await engine.kill()
    engine.clock.advance(3600)
    store = SqlWorkflowStore(parse_url(f"sqlite:///{engine.path}/w.db"))
    await store.signal(run, SignalKind.CANCEL, "enough", 0)
    await store.close()
    await engine.begin()
    await engine.until_is(run, "cancelled")
    assert engine.asked == [first("a")]
    rows = (await engine.service.run("acme", run)).state.rows
    assert {key.path: row.status.value for key, row in rows.items()} == {"a": "cancelled"}


DAMAGE = pytest.mark.parametrize(
    "damage",
    [
        "UPDATE definition SET spec = '{}' WHERE name = 'bad'",
        "DELETE FROM definition WHERE name = 'bad'",
        "UPDATE node SET body = '{\"external\": 7}' WHERE run IN (SELECT id FROM run WHERE definition = 'bad')",
        "UPDATE run SET input = '{' WHERE definition = 'bad'",
        "UPDATE run SET status = 'later' WHERE definition = 'bad'",
    ],
)


@DAMAGE
async def test_what_cannot_be_read_of_one_run_stops_no_other(engine: Engine, damage: str) -> None:
    runs = {}
    for name in ("bad", "good"):
        await engine.put(PLAIN.format(name=name, more=""))
        runs[name] = await engine.run(name)
    await engine.jobs.until(engine.asked, first("a"))
    await engine.until(runs["good"], lambda found: bool(found.state.rows))
    await engine.kill()
    with sqlite3.connect(engine.path / "w.db") as connection:
        assert connection.execute(damage).rowcount == 1
    await engine.begin()
    engine.jobs.report(runs["good"], Finished(first("a")))
    await engine.jobs.until(engine.asked, first("b"))
    engine.jobs.report(runs["good"], Finished(first("b")))
    await engine.until_is(runs["good"], "ok")


async def test_what_cannot_be_stored_of_one_run_stops_no_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {}
    for name in ("bad", "good"):
        await engine.put(PLAIN.format(name=name, more=""))
        runs[name] = await engine.run(name)
        await engine.until(runs[name], lambda found: bool(found.state.rows))
    commit = engine.store.commit

    async def refusing(lease: Lease, changes: Changes, now_ms: int) -> set[str]:
        if any(change.state.id == runs["bad"] for change in changes):
            raise UnstorableError("no text of ours")
        return await commit(lease, changes, now_ms)

    monkeypatch.setattr(engine.store, "commit", refusing)
    for run in runs.values():
        engine.jobs.report(run, Finished(first("a")))
    await engine.until(runs["good"], lambda found: Key("b") in found.state.rows)
    engine.jobs.report(runs["good"], Finished(first("b")))
    await engine.until_is(runs["good"], "ok")
    assert (await engine.service.run("acme", runs["bad"])).state.rows[Key("a")].status == "running"


@DAMAGE
async def test_what_is_told_to_a_run_that_stands_hides_nothing_that_others_are_told(
    engine: Engine, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "MAX_HEARD", 3)
    runs = {}
    for name in ("bad", "good"):
        await engine.put(PLAIN.format(name=name, more=""))
        runs[name] = await engine.run(name)
        await engine.until(runs[name], lambda found: bool(found.state.rows))
    await engine.kill()
    with sqlite3.connect(engine.path / "w.db") as connection:
        assert connection.execute(damage).rowcount == 1
    await engine.begin()
    for _ in range(10):
        await engine.store.signal(runs["bad"], SignalKind.REPORT, {"attempt": first("a")}, 0)
    await engine.store.signal(runs["good"], SignalKind.CANCEL, "enough", 0)
    engine.manager.notice()
    await engine.jobs.until(engine.jobs.stopped, first("a"))


@pytest.mark.parametrize(
    "damage", ["body = '{}'", "body = '{'", "body = '[]'", "kind = 'later'"], ids=["empty", "broken", "list", "later"]
)
async def test_a_word_that_cannot_be_read_stops_no_other_run(engine: Engine, damage: str) -> None:
    runs = {}
    for name in ("bad", "good"):
        await engine.put(PLAIN.format(name=name, more=""))
        runs[name] = await engine.run(name)
        await engine.until(runs[name], lambda found: bool(found.state.rows))
    await engine.kill()
    store = SqlWorkflowStore(parse_url(f"sqlite:///{engine.path}/w.db"))
    await store.signal(runs["bad"], SignalKind.REPORT, {}, 0)
    with sqlite3.connect(engine.path / "w.db") as connection:
        assert connection.execute(f"UPDATE signal SET {damage}").rowcount == 1
    await store.signal(runs["good"], SignalKind.CANCEL, "enough", 0)
    await store.close()
    await engine.begin()
    await engine.jobs.until(engine.jobs.stopped, first("a"))


async def test_a_restart_adopts_what_is_at_work_instead_of_doing_it_again(engine: Engine) -> None:
    # airflow 23520 and 25021: a second instance of a running task after the scheduler was restarted.
    await engine.put(PLAIN.format(name="x", more=""))
    run = await engine.run("x")
    await engine.jobs.until(engine.asked, first("a"))
    await engine.kill()
    await engine.begin()
    await engine.jobs.until(engine.jobs.adopted, first("a"))
    engine.jobs.report(run, Finished(first("a")))
    await engine.jobs.until(engine.asked, first("b"))
    assert engine.asked == [first("a"), first("b")]


async def test_what_was_told_to_stop_when_everything_died_is_told_again(engine: Engine) -> None:
    # airflow 33661: told to stop, then the scheduler and the task died, and it stood there for ever.
    await engine.put(PLAIN.format(name="x", more=""))
    run = await engine.run("x")
    await engine.jobs.until(engine.asked, first("a"))
    cancelling = asyncio.create_task(engine.service.cancel("acme", run, "enough"))
    await engine.jobs.until(engine.jobs.stopped, first("a"))
    await cancelling
    await engine.kill()
    await engine.begin()
    await engine.jobs.until(engine.jobs.stopped, first("a"))
    engine.jobs.report(run, Failed(first("a"), "gone", lost=True))
    await engine.until_is(run, "cancelled")


async def test_the_same_key_at_the_same_time_is_one_run(engine: Engine) -> None:
    # dbos-transact-py 544: calls under one id at once all did the work.
    await engine.put(PLAIN.format(name="x", more=""))
    runs = await asyncio.gather(*(engine.run("x", "same") for _ in range(50)))
    assert len(set(runs)) == 1
    await engine.jobs.until(engine.asked, first("a"))
    assert engine.asked == [first("a")]


async def test_a_key_that_was_used_for_another_definition_harms_nobody(engine: Engine) -> None:
    # dbos-transact-ts 725: starting another workflow under the id of one that runs broke its recovery.
    await engine.put(PLAIN.format(name="x", more=""))
    await engine.put(PLAIN.format(name="other", more=""))
    run = await engine.run("x", "k")
    with pytest.raises(RunRefusedError, match="another definition"):
        await engine.run("other", "k")
    await engine.jobs.until(engine.asked, first("a"))
    await engine.kill()
    await engine.begin()
    await engine.jobs.until(engine.jobs.adopted, first("a"))
    assert (await engine.service.run("acme", run)).summary.name == "x"


async def test_a_loop_that_failed_in_the_middle_goes_on_in_the_middle(engine: Engine) -> None:
    # twenty 21458, argo-workflows 12009: nothing to run after a retry, or all of it again.
    await engine.put(PLAIN.format(name="x", more=", for_each: {items: [1, 2, 3], max_parallel: 1}"))
    run = await engine.run("x")
    await engine.jobs.until(engine.asked, first("a"))
    engine.jobs.report(run, Finished(first("a")))
    await engine.jobs.until(engine.asked, first("a", 1))
    engine.jobs.report(run, Failed(first("a", 1), "no"))
    await engine.until_is(run, "failed")
    await engine.service.resume("acme", run)
    await engine.jobs.until(engine.asked, first("a", 1, 2))
    engine.jobs.report(run, Finished(first("a", 1, 2)))
    await engine.jobs.until(engine.asked, first("a", 2))
    engine.jobs.report(run, Finished(first("a", 2)))
    await engine.jobs.until(engine.asked, first("b"))
    assert engine.asked.count(first("a")) == 1


async def test_a_schedule_begins_one_run_when_the_clocks_go_back(engine: Engine) -> None:
    # prefect 7381 and 7461, dagster 17499: daily flows ran twice on the night in October.
    night = [datetime.fromisoformat(f"2026-10-25T0{hour}:00Z") for hour in range(4)]
    engine.clock = FakeClock(time_ms=ms_of(datetime.fromisoformat("2026-10-24T12:00Z")))
    await engine.kill()
    await engine.begin()
    text = PLAIN.format(name="daily", more="")
    await engine.put(f'{text}schedule: {{cron: "30 2 * * *", time_zone: Europe/Berlin, missed: all}}\n')
    schedulers = [Scheduler(engine.store, engine.service, engine.clock, cron) for _ in range(2)]
    for moment in night:
        engine.clock.advance((ms_of(moment) - engine.clock.time_ms()) / 1000)
        await asyncio.gather(*(one.turn() for one in schedulers))
    assert len(await engine.service.runs("acme", None, None, 10)) == 1
    engine.clock.advance(86_400)
    await schedulers[0].turn()
    assert len(await engine.service.runs("acme", None, None, 10)) == 2


@pytest.mark.parametrize(
    "damage",
    ["""'{}'""", """replace(spec, 'Europe/Berlin', 'Europe/Nowhere')""", """'{'"""],
    ids=["spec", "zone", "json"],
)
async def test_a_schedule_that_cannot_be_read_keeps_no_other_from_its_time(engine: Engine, damage: str) -> None:
    engine.clock.advance((ms_of(datetime.fromisoformat("2026-10-20T00:10Z")) - engine.clock.time_ms()) / 1000)
    for name, minute in (("bad", 30), ("good", 40)):
        text = PLAIN.format(name=name, more="")
        await engine.put(f'{text}schedule: {{cron: "{minute} * * * *", time_zone: Europe/Berlin}}\n')
    with sqlite3.connect(engine.path / "w.db") as connection:
        spec = connection.execute("SELECT spec FROM definition WHERE name = 'bad'").fetchone()[0]
        connection.execute(f"UPDATE definition SET spec = {damage} WHERE name = 'bad'")
    scheduler = Scheduler(engine.store, engine.service, engine.clock, cron)
    engine.clock.advance(3600)
    await scheduler.turn()
    assert [one.name for one in await engine.service.runs("acme", None, None, 10)] == ["good"]
    # It is looked at again, and not at once.
    with sqlite3.connect(engine.path / "w.db") as connection:
        connection.execute("UPDATE definition SET spec = ? WHERE name = 'bad'", (spec,))
    await scheduler.turn()
    assert len(await engine.service.runs("acme", None, None, 10)) == 1
    engine.clock.advance(600)
    await scheduler.turn()
    assert {one.name for one in await engine.service.runs("acme", None, None, 10)} == {"good", "bad"}


async def test_what_is_over_for_long_is_deleted_with_all_that_belongs_to_it(engine: Engine) -> None:
    await engine.put(PLAIN.format(name="x", more=""))
    old = await engine.run("x")
    await engine.jobs.until(engine.asked, first("a"))
    engine.jobs.report(old, Failed(first("a"), "no"))
    await engine.until_is(old, "failed")
    engine.clock.advance(31 * 86_400)
    young = await engine.run("x")
    await Retention(engine.store, {"process": engine.jobs}, engine.clock, 30).turn()
    assert [one.id for one in await engine.service.runs("acme", None, None, 10)] == [young]
    assert await engine.store.events("acme", old, 0, 10) is None
    assert engine.jobs.forgotten == [public_id(old, first("a"))]


async def test_a_clock_that_is_far_ahead_deletes_little(engine: Engine) -> None:
    await engine.put(PLAIN.format(name="x", more=""))
    ended: list[str] = []
    for _ in range(4):
        run = await engine.run("x")
        await engine.jobs.until(engine.asked, first("a"))
        engine.jobs.report(run, Failed(first("a"), "no"))
        await engine.until_is(run, "failed")
        ended.append(run)
        engine.clock.advance(20 * 3600)
    engine.clock.advance(400 * 86_400)
    retention = Retention(engine.store, {}, engine.clock, 30)
    await retention.turn()
    assert {one.id for one in await engine.service.runs("acme", None, None, 10)} == set(ended[2:])
    # Were it right, the others would follow.
    await retention.turn()
    assert await engine.service.runs("acme", None, None, 10) == []
    await retention.turn()


async def test_a_schedule_that_is_taken_out_begins_nothing_any_more(engine: Engine) -> None:
    """hatchet-dev/hatchet 410: a cron of an earlier version went on after the definition was put without it."""
    text = "name: timed\nnodes:\n  a: {run: {process: {command: [x]}}}\n"
    await engine.put(f'{text}schedule: {{cron: "* * * * *"}}\n')
    far_ms = engine.clock.time_ms() + 10 * 86_400_000
    assert [one.name for one in await engine.store.due_schedules(far_ms, 9)] == ["timed"]
    await engine.put(text)
    assert await engine.store.due_schedules(far_ms, 9) == []


async def test_many_nested_runs_that_end_at_once_wake_their_parent(engine: Engine) -> None:
    """durable-workflow/workflow 493, with the store: each end is stored with what tells the parent."""
    await engine.put('name: child\nnodes:\n  a: {when: "1 == 2", run: {process: {command: [x]}}}\n')
    items = "[" + ", ".join(map(str, range(50))) + "]"
    await engine.put(
        f"name: parent\nnodes:\n  each: {{workflow: {{name: child}}, for_each: {{items: {items}, max_parallel: 50}}}}\n"
    )
    run = await engine.run("parent")
    await engine.until(run, lambda found: found.state.status == "ok")


async def test_runs_that_nest_themselves_have_an_end(engine: Engine) -> None:
    await engine.put(PLAIN.format(name="one", more=""))
    await engine.put("name: two\nnodes: {a: {workflow: {name: one}}}\n")
    await engine.put("name: one\nnodes: {a: {workflow: {name: two}}, b: {workflow: {name: two}}}\n")
    run = await engine.run("one")
    await engine.until_is(run, "failed")
    assert "nested 8 deep at most" in str((await engine.service.run("acme", run)).state.error)
    runs = await engine.store.runs("acme", None, None, 1_000)
    # Two of each but the first and those between.
    assert len(runs) <= 1 + 2 + 2 + 4 + 4 + 8 + 8 + 16 + 16
    assert {found.status for found in runs} <= {"failed", "cancelled"}


async def test_the_runs_of_a_dead_manager_are_taken_over_without_a_pause(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands: what is not taken at once is taken a second later, which never comes."""
    monkeypatch.setattr(manager, "MAX_CLAIMED", 10)
    await engine.put('name: x\nnodes:\n  a: {when: "1 == 2", run: {process: {command: [x]}}}\n')
    news = [NewRun(f"free{number}", "acme", "x", None, {}, engine.clock.time_ms()) for number in range(35)]
    await engine.store.create(news, None)
    engine.manager.notice()
    for new in news:
        await engine.until_is(new.id, "ok")
