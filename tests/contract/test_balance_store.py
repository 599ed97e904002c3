"""What a rebalancer sees and may order, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gateway.adapters.sql.balance_store import SqlBalanceStore
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.workflows.advance import loaded
from gateway.workflows.fleet import Dead, Lead, ManagerSeen, Move, Orders, Reserve, Share
from gateway.workflows.records import Lease, NewRun, Sign
from gateway.workflows.step import Begin, Cancel, Resume
from tests.support.workflow_stores import ACCOUNT, TWO, begun, play, put
from tests.support.workflows import START_MS

# A time that is over when it begins, by whatever clock counts.
OVER_S = -1.0


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlWorkflowStore]:
    made = SqlWorkflowStore(parse_url(url))
    await made.open()
    await put(made)
    yield made
    await made.close()


@pytest.fixture
def balance(store: SqlWorkflowStore) -> SqlBalanceStore:
    return SqlBalanceStore(store)


async def led(balance: SqlBalanceStore, holder: str = "one") -> Lead:
    found = await balance.lead(holder, 30, None, None)
    assert found is not None
    return found


async def given(store: SqlWorkflowStore, manager: str | None, count: int) -> None:
    name = manager or "free"
    news = [NewRun(f"{name}-{number:03}", ACCOUNT, "test", None, {}, START_MS) for number in range(count)]
    await store.create(news, manager)


async def seen(balance: SqlBalanceStore) -> dict[str, ManagerSeen]:
    return {one.id: one for one in (await balance.fleet(counted=True)).managers}


async def test_one_leads_until_its_lease_has_run_out(balance: SqlBalanceStore) -> None:
    first = await balance.lead("one", 60, 7, None)
    assert first == Lead("one", 1)
    assert await balance.lead("two", 30, 8, None) is None
    assert await balance.lead("one", 60, 7, None) == first
    leader = (await balance.fleet(counted=False)).leader
    assert leader is not None
    assert (leader.holder, leader.epoch, leader.lock_key) == ("one", 1, 7)
    assert await balance.lead("one", OVER_S, 7, None) == first
    second = await balance.lead("two", 60, 8, None)
    assert second == Lead("two", 2)
    assert not await balance.obey(first, Orders(sweep=True))
    assert await balance.obey(second, Orders(sweep=True))
    assert await balance.lead("one", 30, 7, None) is None


async def test_who_leads_is_not_waited_for_when_it_is_known_to_be_dead(balance: SqlBalanceStore) -> None:
    first = await led(balance)
    assert await balance.lead("two", 30, None, first.epoch - 1) is None
    second = await balance.lead("two", 30, None, first.epoch)
    assert second == Lead("two", 2)
    await balance.yield_lead(second)
    assert await balance.lead("three", 30, None, None) == Lead("three", 3)


async def test_the_runs_of_a_dead_manager_go_where_they_are_offered(
    store: SqlWorkflowStore, balance: SqlBalanceStore
) -> None:
    slow = await store.register("slow", "one", OVER_S)
    others = [await store.register(name, "one", 30) for name in ("a", "b")]
    owned, state = await begun(store, slow, "r1")
    await given(store, "slow", 9)
    found = await seen(balance)
    assert (found["slow"].runs, found["a"].runs) == (10, 0)
    lead = await led(balance)
    assert (await seen(balance))["slow"].left_s < 0
    orders = Orders(dead=(Dead("slow", slow.fence, False, (Share("a", 6), Share("b", 3))),))
    assert await balance.obey(lead, orders)
    assert await balance.obey(lead, orders)
    assert not await store.heartbeat(slow, 30, Sign(2))
    assert (await play(store, slow, owned, state, Begin()))[0] == set()
    # The one that nobody is meant to have is anyone's.
    claimed = {lease.manager: await store.claim(lease, 100) for lease in others}
    assert Counter({name: len(runs) for name, runs in claimed.items()}) == {"a": 7, "b": 3}
    assert all(one.hold_ms == 0 for runs in claimed.values() for one in runs)
    runs = [(lease, one) for lease in others for one in claimed[lease.manager] if one.id == "r1"]
    ((lease, again),) = runs
    ((_, detail),) = await store.load(lease, [again])
    assert detail is not None
    assert again.epoch == owned.epoch + 2
    assert (await play(store, lease, again, loaded(TWO, detail.state), Begin()))[0] == {"r1"}
    back = await store.register("slow", "two", 30)
    assert back.fence > slow.fence
    assert await store.owned(back) == []


async def test_who_has_given_a_sign_of_life_in_between_is_not_dead(
    store: SqlWorkflowStore, balance: SqlBalanceStore
) -> None:
    lease = await store.register("m", "one", 30)
    lead = await led(balance)
    assert await balance.obey(lead, Orders(dead=(Dead("m", lease.fence, False, ()),)))
    assert await store.heartbeat(lease, 30, Sign(1))
    assert await balance.obey(lead, Orders(dead=(Dead("m", lease.fence - 1, True, ()),)))
    assert await store.heartbeat(lease, 30, Sign(2))


async def test_after_a_hint_jobs_wait_for_the_end_of_the_old_lease(
    store: SqlWorkflowStore, balance: SqlBalanceStore
) -> None:
    lease, other = await store.register("m", "one", 30), await store.register("other", "one", 30)
    await given(store, "m", 1)
    assert await balance.obey(await led(balance), Orders(dead=(Dead("m", lease.fence, True, (Share("other", 1),)),)))
    (claimed,) = await store.claim(other, 9)
    assert 20_000 < claimed.hold_ms <= 30_000
    assert not await store.heartbeat(lease, 30, Sign(1))


async def offered(store: SqlWorkflowStore, balance: SqlBalanceStore) -> tuple[Lead, Lease, Lease]:
    full, empty = await store.register("full", "one", 30), await store.register("empty", "one", 30)
    await given(store, "full", 4)
    lead = await led(balance)
    assert await balance.obey(lead, Orders(moves=(Move("full", (Share("empty", 2),), "full-000", "skew"),)))
    return lead, full, empty


async def test_runs_move_when_their_manager_lets_go(store: SqlWorkflowStore, balance: SqlBalanceStore) -> None:
    _, full, empty = await offered(store, balance)
    found = await seen(balance)
    assert (found["full"].runs, found["full"].leaving, found["empty"].runs) == (2, 2, 2)
    asked = await store.offered(full, 9)
    assert asked == ["full-001", "full-002"]
    assert await store.claim(empty, 9) == []
    mine = [one for one in await store.owned(full) if one.id in (*asked, "full-003")]
    assert await store.let_go(full._replace(fence=0), mine) == set()
    assert await store.let_go(full, mine) == set(asked)
    assert await store.claim(full, 9) == []
    assert [one.id for one in await store.claim(empty, 9)] == asked
    assert len(await store.owned(full)) == 2


async def test_a_run_that_is_over_is_offered_to_nobody_also_when_it_is_resumed(
    store: SqlWorkflowStore, balance: SqlBalanceStore
) -> None:
    """Its offer would outlive the manager that it was made to, and who is resumed would go to a dead one."""
    full, _ = await store.register("full", "one", 30), await store.register("empty", "one", 30)
    owned, state = await begun(store, full, "r1")
    lead = await led(balance)
    assert await balance.obey(lead, Orders(moves=(Move("full", (Share("empty", 1),), None, "skew"),)))
    assert await store.offered(full, 9) == ["r1"]
    _, state = await play(store, full, owned, state, Cancel("enough"))
    await play(store, full, owned, state, Resume())
    assert await store.offered(full, 9) == []


async def test_an_offer_is_forced_or_taken_back(store: SqlWorkflowStore, balance: SqlBalanceStore) -> None:
    lead, full, empty = await offered(store, balance)
    assert await balance.obey(lead, Orders(withdrawn=("full",), older_s=OVER_S))
    assert await store.offered(full, 9) == []
    # What was offered before is the last to be offered again.
    assert await balance.obey(lead, Orders(moves=(Move("full", (Share("empty", 1),), "full-000", "skew"),)))
    assert await store.offered(full, 9) == ["full-003"]
    assert await balance.obey(lead, Orders(forced=("full",), older_s=60))
    assert await store.claim(empty, 9) == []
    assert await balance.obey(lead, Orders(forced=("full",), older_s=OVER_S))
    (claimed,) = await store.claim(empty, 9)
    assert claimed.id == "full-003"
    assert claimed.hold_ms > 20_000


async def test_a_manager_has_a_run_for_itself(store: SqlWorkflowStore, balance: SqlBalanceStore) -> None:
    lease, other = await store.register("m", "one", 30), await store.register("other", "one", 30)
    await given(store, "m", 1)
    lead = await led(balance)
    assert await store.heartbeat(lease, 30, Sign(1, None, "m-000", 1))
    assert (await seen(balance))["m"].hog_run == "m-000"
    assert await balance.obey(lead, Orders(reserved=(Reserve("m", lease.fence, "m-000", 60),)))
    found = (await seen(balance))["m"]
    assert (found.reserved, found.run_hogs) == ("m-000", 1)
    await given(store, None, 1)
    assert await store.claim(lease, 9) == []
    assert await balance.obey(lead, Orders(reserved=(Reserve("m", lease.fence, "m-000", OVER_S),)))
    assert [one.id for one in await store.claim(lease, 9)] == ["free-000"]
    assert await balance.obey(lead, Orders(reserved=(Reserve("m", lease.fence, "m-000", None),)))
    assert (await seen(balance))["m"].run_hogs == 3
    assert await balance.obey(lead, Orders(freed=("m",)))
    assert (await seen(balance))["m"].reserved is None
    assert await store.claim(other, 9) == []


async def test_runs_for_anyone_are_shared(store: SqlWorkflowStore) -> None:
    leases = [await store.register(name, "one", 30) for name in "abc"]
    await given(store, None, 9)
    assert [len(await store.claim(lease, 9)) for lease in leases * 3] == [3, 2, 2, 1, 1, 0, 0, 0, 0]
    await given(store, None, 1)


async def test_runs_of_a_manager_that_was_dead_already_are_found(
    store: SqlWorkflowStore, balance: SqlBalanceStore
) -> None:
    other = await store.register("other", "one", 30)
    await given(store, "nobody", 2)
    assert (await balance.fleet(counted=True)).left_behind == 2
    assert await balance.obey(await led(balance), Orders(sweep=True))
    assert len(await store.claim(other, 9)) == 2


async def test_session_locks_are_seen(balance: SqlBalanceStore, url: str) -> None:
    found = await balance.fleet(counted=False)
    assert (found.locks, bool(found.server)) == ((frozenset(), True) if url.startswith("postgresql") else (None, False))
