"""The session lock of a process on a real PostgreSQL: who sees it, when it is gone, and what the process does then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import asyncpg
import pytest

from gateway.adapters.sql.balance_store import SqlBalanceStore
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.session_lock import SessionLock
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.errors import StoreError
from gateway.workflows.fleet import FleetSeen
from gateway.workflows.lock_watch import LockWatch
from gateway.workflows.records import Sign, SignalKind
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import Postgres

KEY = 4711


@pytest.fixture
def own() -> Iterator[Postgres]:
    """One that a test may stop."""
    server = Postgres()
    server.start()
    yield server
    server.forget()


class Watched:
    """A process with a lock, and somebody who looks."""

    def __init__(self, url: str) -> None:
        self.store = SqlWorkflowStore(parse_url(url))
        self.balance = SqlBalanceStore(self.store)
        self.hints = 0
        self.lock = SessionLock(parse_url(url), KEY, self.hear)
        self.url = url

    def hear(self) -> None:
        self.hints += 1

    async def open(self) -> None:
        await self.store.open()
        await self.lock.start()
        self.task = asyncio.create_task(self.lock.run())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.lock.close()
        await self.store.close()

    async def locks(self) -> frozenset[int] | None:
        return (await self.balance.fleet(counted=False)).locks

    async def execute(self, statement: str) -> None:
        plain = self.url.replace("postgresql+asyncpg", "postgresql")
        connection = await asyncpg.connect(plain)
        await connection.execute(statement)
        await connection.close()


async def until(check: Callable[[], bool]) -> None:
    """What only the server tells, when it is asked."""
    for _ in range(500):
        if check():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen")


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.url()


@pytest.fixture
async def watched(url: str) -> AsyncIterator[Watched]:
    made = Watched(url)
    await made.open()
    yield made
    await made.close()


async def test_a_lock_is_seen_while_its_process_lives(watched: Watched) -> None:
    assert (watched.lock.lock_key, watched.lock.may_act) == (KEY, True)
    assert await watched.locks() == frozenset({KEY})
    await watched.lock.close()
    for _ in range(500):
        if not await watched.locks():
            break
        await asyncio.sleep(0.01)
    assert not await watched.locks()
    assert (watched.lock.lock_key, watched.lock.may_act) == (None, False)


async def test_a_cut_connection_is_noticed_and_the_lock_taken_again(watched: Watched) -> None:
    await watched.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    await until(lambda: not watched.lock.may_act)
    assert watched.lock.lock_key is None
    await until(lambda: watched.lock.may_act)
    assert await watched.locks() == frozenset({KEY})


async def test_hints_are_heard(watched: Watched) -> None:
    await watched.store.signal("nobody", SignalKind.CANCEL, "x", 0)
    await until(lambda: watched.hints == 1)


async def test_a_second_process_with_the_same_key_does_not_have_it(watched: Watched) -> None:
    other = SessionLock(parse_url(watched.url), KEY, watched.hear)
    await other.start()
    assert (other.lock_key, other.may_act) == (None, False)


async def test_behind_a_pooler_there_is_no_lock_and_leases_decide(postgres: Postgres, url: str) -> None:
    with PgBouncer(postgres) as pooler:
        lock = SessionLock(parse_url(pooler.url(url)), KEY, lambda: None)
        await lock.start()
    assert (lock.lock_key, lock.may_act) == (None, True)


async def test_after_a_restart_of_the_database_nobody_is_taken_for_dead(own: Postgres) -> None:
    made = Watched(await asyncio.to_thread(own.url))
    await made.open()
    watch, now_s = LockWatch(30), 0.0

    async def look() -> frozenset[int]:
        nonlocal now_s
        now_s += 1
        return watch.look(await made.balance.fleet(counted=False), now_s)

    lease = await made.store.register("m", "i", 30)
    assert await made.store.heartbeat(lease, 30, Sign(1, KEY))
    assert await look() == frozenset()
    own.stop("immediate")
    await until(lambda: not made.lock.may_act)
    with pytest.raises(StoreError):
        await look()
    made.task.cancel()
    own.start()
    for _ in range(4):
        assert await look() == frozenset()
    seen: FleetSeen = await made.balance.fleet(counted=False)
    assert seen.locks == frozenset()
    await made.lock.start()
    assert await made.locks() == frozenset({KEY})
    await made.close()
