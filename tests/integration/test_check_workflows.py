"""`heiwa check` says what does not fit between the roles of a process and the store of workflows."""

from __future__ import annotations

import asyncio

import pytest

from gateway.adapters.sql.balance_store import SqlBalanceStore
from gateway.adapters.sql.engine import make_engine, parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.cli import check_workflows
from gateway.cli.result import Result
from gateway.drain.outlook import BAD, GOOD, WARN
from gateway.errors import SettingsError
from tests.support.bench import make_settings
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import Postgres


def check(*flags: str) -> dict[str, Result]:
    return {found.name: found for found in check_workflows.results(make_settings(*flags))}


def test_embedded_everything_is_one_process() -> None:
    found = check()
    assert found["serve.roles"].found == "gateway, manager, rebalancer"
    assert {one.verdict for one in found.values()} == {GOOD}


def test_without_a_manager_nothing_moves_on_sqlite() -> None:
    assert check("serve.roles=gateway")["serve.roles"].verdict == WARN
    with pytest.raises(SettingsError, match="one process holds the file"):
        check("serve.roles=manager")


def test_a_store_that_is_not_there_is_bad() -> None:
    found = check("workflows.store_url=postgresql+asyncpg://postgres@127.0.0.1:1/nothing")
    assert found["workflows.store_url"].verdict == BAD


async def _served(url: str) -> None:
    store = SqlWorkflowStore(parse_url(url))
    await store.open()
    await store.register("m", "i", 30)
    await SqlBalanceStore(store).lead("r", 30, None, None)
    await store.close()


def test_who_is_missing_is_said(postgres: Postgres) -> None:
    url = postgres.url()
    flags = (f"workflows.store_url={url}", "serve.roles=gateway")
    assert "will be made" in check(*flags)["workflows.store_url"].found
    asyncio.run(_opened(url))
    found = check(*flags)
    assert found["rebalancer"].verdict == found["manager"].verdict == WARN
    asyncio.run(_served(url))
    found = check(*flags)
    assert set(found) == {"serve.roles", "workflows.store_url"}
    assert "1 managers at work" in found["workflows.store_url"].found
    alone = check(f"workflows.store_url={url}", "serve.roles=manager")
    assert "reach no device" in alone["serve.roles"].found


async def _changed(url: str, statement: str) -> None:
    engine = make_engine(parse_url(url))
    async with engine.begin() as connection:
        await connection.exec_driver_sql(statement)
    await engine.dispose()


def test_a_newer_schema_is_good_as_long_as_this_version_may_use_it(postgres: Postgres) -> None:
    url = postgres.url()
    flags = (f"workflows.store_url={url}", "serve.roles=manager,rebalancer")
    asyncio.run(_served(url))
    asyncio.run(_changed(url, "UPDATE alembic_version SET version_num = '9998'"))
    found = check(*flags)["workflows.store_url"]
    assert found.verdict == GOOD
    assert "schema 9998, 1 managers" in found.found
    asyncio.run(_changed(url, "UPDATE usable SET since = '9998'"))
    assert check(*flags)["workflows.store_url"].verdict == BAD


async def _opened(url: str) -> None:
    store = SqlWorkflowStore(parse_url(url))
    await store.open()
    await store.close()


def test_a_pooler_is_seen(postgres: Postgres) -> None:
    with PgBouncer(postgres) as pooler:
        found = check(f"workflows.store_url={pooler.url(postgres.url())}")
    assert found["workflows.death_hint"].verdict == WARN
