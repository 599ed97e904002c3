"""A PostgreSQL that has made no statistics yet of tens of thousands of runs and signals."""

from __future__ import annotations

import asyncio

import pytest

from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from tests.support.postgres import Postgres
from tests.support.workflow_stores import put

RUNS = 40_000
# Nested loops over all of both would take ten times as long.
WITHIN_S = 5.0
QUIET = "ALTER TABLE {} SET (autovacuum_enabled = false)"
FILL = (
    "INSERT INTO run (id, account, definition, version, engine, status, revision, manager, epoch, depth, input, "
    f"created_ms) SELECT 'r' || n, 'acme', 'test', 1, 'manager', 'queued', 0, 'm', 1, 0, '{{}}', 0 "
    f"FROM generate_series(1, {RUNS}) n",
    f"INSERT INTO signal (run, kind, body, created_ms) SELECT 'r' || n, 'cancel', '\"why\"', 0 "
    f"FROM generate_series(1, {RUNS}) n",
    f"INSERT INTO signal (run, kind, body, created_ms) SELECT 'r' || n, 'child', '{{}}', 0 "
    f"FROM generate_series(1, {RUNS}) n",
)


@pytest.mark.parametrize("orders", [True, False])
async def test_signals_are_heard_before_there_are_statistics(postgres: Postgres, *, orders: bool) -> None:
    url = await asyncio.to_thread(postgres.url)
    store = SqlWorkflowStore(parse_url(url))
    await store.open()
    await put(store)
    lease = await store.register("m", "one", 30)
    async with store.unit("fill") as connection:
        for statement in (QUIET.format("run"), QUIET.format("signal"), *FILL):
            await connection.exec_driver_sql(statement)
    async with asyncio.timeout(WITHIN_S):
        heard = await store.signals(lease, 1_000, orders=orders)
    assert [signal.run for _, signal in heard] == [f"r{number}" for number in range(1, 1_001)]
    await store.close()
