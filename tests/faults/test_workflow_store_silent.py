"""A PostgreSQL that stands still: it takes what is sent, and answers nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.adapters.sql import engine
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.errors import StoreError
from tests.support.postgres import Postgres
from tests.support.program import Program, eventually


@pytest.fixture
def own(own_postgres: Postgres) -> Iterator[Postgres]:
    yield own_postgres
    own_postgres.thaw()


@pytest.fixture
def url(own: Postgres) -> str:
    return own.url()


def logged(program: Program, event: str) -> bool:
    return any(line["event"] == event for line in program.events())


@pytest.mark.parametrize("roles", ["gateway,manager,rebalancer", "gateway", "manager"])
@pytest.mark.parametrize("noticed", [False, True])
def test_a_process_ends_all_the_same(tmp_path: Path, own: Postgres, roles: str, noticed: bool) -> None:
    settings = f"workflows.store_url={own.url()}", f"serve.roles={roles}"
    with Program(tmp_path / "data", *settings) as program:
        own.freeze()
        if noticed and "manager" in roles:
            eventually(lambda: logged(program, "workflow_lock_lost"), what="nothing has asked")
        assert program.terminate() == 0
        assert logged(program, "stopped")
        assert ("manager" in roles) == logged(program, "workflow_store_away")


def test_a_second_signal_does_not_wait_for_it(tmp_path: Path, own: Postgres) -> None:
    with Program(tmp_path / "data", f"workflows.store_url={own.url()}") as program:
        own.freeze()
        program.process.terminate()
        eventually(lambda: logged(program, "connections_closed"))
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(40) == 0


async def test_a_statement_is_given_up_and_the_next_finds_the_server_again(
    own: Postgres, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SILENCE_S", 0.5)
    store = SqlWorkflowStore(parse_url(url))
    await store.open()
    own.freeze()
    with pytest.raises(StoreError, match="it does not answer"):
        await store.definitions("acme", "", 1)
    own.thaw()
    assert await store.definitions("acme", "", 1) == []
    await store.close()


async def test_who_has_given_up_asks_nothing_more(url: str) -> None:
    store = SqlWorkflowStore(parse_url(url))
    await store.open()
    store.give_up()
    with pytest.raises(StoreError, match="it does not answer"):
        await store.definitions("acme", "", 1)
    await store.close()
