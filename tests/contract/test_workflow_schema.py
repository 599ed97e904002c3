"""How the schema of the workflow store gets on with older and newer programs, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import pytest

from gateway.adapters.sql.engine import make_engine, parse_url
from gateway.adapters.sql.mapping import NEW_RUN, new_run_row
from gateway.adapters.sql.schema import differences, migrate
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.adapters.sql.tables import metadata
from gateway.errors import SchemaError
from gateway.workflows.records import (
    NewRun,
)
from gateway.workflows.run import Attempt
from gateway.workflows.step import Begin, Finished
from tests.support.workflow_stores import begun, play, put


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
