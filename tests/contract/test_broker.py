"""One contract for all brokers, directories and keepers of idempotency keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.memory.attempts import MemoryAttempts
from gateway.adapters.memory.exchange import Exchange, MemoryBroker, MemoryDirectory
from gateway.channels.directory import Closed, Duplicates, Entry, Holder, Opened, Standing
from gateway.channels.ports import Claim, Claimed
from gateway.connections.info import DisconnectInfo
from gateway.wire.close_codes import Fault
from tests.support.brokers import Peer, World, eventually, on_server
from tests.support.redis_server import BINARIES, RedisServer

LEASE_S = 1.0
REPLACE, REJECT, ALLOW = Duplicates.REPLACE, Duplicates.REJECT, Duplicates.ALLOW
# Names as they come: with what separates keys, braces of hash tags, and more than ASCII.
NAMES = [("acme", "lamp-1"), ("a:b", "{c}"), ("a", "b:{c}"), ("平和", "ランプ"), ("acme", "*"), ("", "\x7f")]


def in_memory() -> World:
    clock = SystemClock()
    exchange, attempts = Exchange(clock, LEASE_S), MemoryAttempts(clock)
    return World(lambda name: Peer(MemoryBroker(exchange, name), MemoryDirectory(exchange, name), attempts), LEASE_S)


@pytest.fixture(scope="module", params=["memory", *BINARIES])
def exchange(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    if request.param == "memory":
        yield None
        return
    server = RedisServer(BINARIES[request.param](), tmp_path_factory.mktemp(request.param))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def world(exchange: RedisServer | None) -> AsyncIterator[World]:
    world = in_memory() if exchange is None else on_server(exchange, LEASE_S)
    yield world
    await world.close()


def opened(
    connection: str, *, device: str = "lamp-1", account: str = "acme", age_ms: int = 0, order: int = 0
) -> Opened:
    return Opened(account, device, connection, age_ms, order)


def last(reason: str = "eof") -> DisconnectInfo:
    return DisconnectInfo(1_764_374_400_000, 1006, reason, Fault.NETWORK)


async def seen(peer: Peer, account: str, device: str) -> Entry | None:
    """What is found, without its number."""
    entry = await peer.directory.find(account, device)
    return None if entry is None else entry._replace(order=0)


async def test_an_envelope_arrives_whole_and_in_order(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    sent = [b"", bytes(range(256)), "平和".encode(), b"x" * 300_000, *(b"%d" % number for number in range(200))]
    for envelope in sent:
        assert await one.broker.post("two", envelope)
    assert [await two.received() for _ in sent] == sent
    assert await two.broker.post("two", b"to itself")
    assert await two.received() == b"to itself"
    assert one.inbox.empty()
    assert one.broker.problem == two.broker.problem == ""
    assert (one.broker.gateway, two.broker.gateway) == ("one", "two")


async def test_nobody_reads_what_is_posted_to_a_gateway_that_is_gone(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    assert not await one.broker.post("three", b"x")
    await two.stop()

    async def gone() -> bool:
        return not await one.broker.post("two", b"x")

    await eventually(gone)


async def test_a_device_is_found_where_it_is(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    changes = [opened(f"c{number}", account=account, device=device) for number, (account, device) in enumerate(NAMES)]
    standings = await one.directory.write(changes, REPLACE)
    assert len({standing.order for standing in standings}) == len(NAMES)
    assert [standing._replace(order=0) for standing in standings] == [Standing()] * len(NAMES)
    for number, (account, device) in enumerate(NAMES):
        assert await seen(two, account, device) == Entry(Holder("one", f"c{number}"), None)
    assert await seen(two, "other", "lamp-1") is None
    assert await seen(two, "acme", "LAMP-1") is None
    assert await one.directory.write([], REPLACE) == []


async def test_how_a_device_left_is_kept(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    await one.directory.write([opened("a"), Closed("acme", "lamp-1", "a", last())], REPLACE)
    assert await seen(two, "acme", "lamp-1") == Entry(None, last())
    await two.directory.write([opened("b")], REPLACE)
    assert await seen(one, "acme", "lamp-1") == Entry(Holder("two", "b"), last())
    await two.directory.write([Closed("acme", "lamp-1", "b", last("drain"))], REPLACE)
    assert await seen(one, "acme", "lamp-1") == Entry(None, last("drain"))


async def test_the_number_outlives_the_connection(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    (standing,) = await one.directory.write([opened("a")], REPLACE)
    for _ in range(2):
        entry = await two.directory.find("acme", "lamp-1")
        assert entry is not None
        assert entry.order == standing.order > 0
        await one.directory.write([Closed("acme", "lamp-1", "a", last())], REPLACE)


async def test_an_end_that_comes_late_takes_nothing_from_the_newer_connection(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    await one.directory.write([opened("a")], REPLACE)
    (standing,) = await two.directory.write([opened("b")], REPLACE)
    assert standing.rival == Holder("one", "a")
    assert standing.wins
    await one.directory.write([Closed("acme", "lamp-1", "a", last())], REPLACE)
    assert await seen(one, "acme", "lamp-1") == Entry(Holder("two", "b"), None)
    # Somebody else's connection of the same name is not ours to end.
    await one.directory.write([Closed("acme", "lamp-1", "b", None)], REPLACE)
    assert await seen(one, "acme", "lamp-1") == Entry(Holder("two", "b"), None)


async def test_the_newer_connection_wins_also_when_it_is_announced_first(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    (younger,) = await two.directory.write([opened("b", age_ms=2_000)], REPLACE)
    (older,) = await one.directory.write([opened("a", age_ms=60_000)], REPLACE)
    assert (older.rival, older.wins) == (Holder("two", "b"), False)
    assert older.order < younger.order
    assert await seen(one, "acme", "lamp-1") == Entry(Holder("two", "b"), None)
    (newest,) = await one.directory.write([opened("c")], REPLACE)
    assert (newest.rival, newest.wins) == (Holder("two", "b"), True)


async def test_what_a_server_that_hung_carries_out_late_is_as_old_as_it_was(
    world: World, exchange: RedisServer | None
) -> None:
    if exchange is None:
        # It carries out everything at once.
        return
    one, two = await world.join("one"), await world.join("two")
    exchange.ask("CLIENT", "PAUSE", "1000", "ALL")
    (older,) = await one.directory.write([opened("a")], REPLACE)
    # It was opened while the server hung.
    (newer,) = await two.directory.write([opened("b", age_ms=500)], REPLACE)
    assert newer.order > older.order
    assert newer.wins


async def test_who_is_announced_again_keeps_its_number(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    (first,) = await one.directory.write([opened("a")], REPLACE)
    (again,) = await one.directory.write([opened("a", age_ms=99_000, order=first.order)], REPLACE)
    assert again == first
    (second,) = await two.directory.write([opened("b")], REPLACE)
    assert second.order > first.order
    (late,) = await one.directory.write([opened("a", age_ms=99_000, order=first.order)], REPLACE)
    assert (late.rival, late.wins) == (Holder("two", "b"), False)


@pytest.mark.parametrize(("rule", "holder"), [(REPLACE, Holder("two", "b")), (ALLOW, Holder("two", "b"))])
async def test_the_newest_is_the_one_that_is_found(world: World, rule: Duplicates, holder: Holder) -> None:
    one, two = await world.join("one"), await world.join("two")
    await one.directory.write([opened("a")], rule)
    await two.directory.write([opened("b")], rule)
    assert await seen(one, "acme", "lamp-1") == Entry(holder, None)


async def test_where_duplicates_are_rejected_the_older_one_stays(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    await one.directory.write([opened("a")], REJECT)
    (standing,) = await two.directory.write([opened("b")], REJECT)
    assert (standing.rival, standing.wins) == (Holder("one", "a"), False)
    assert await seen(one, "acme", "lamp-1") == Entry(Holder("one", "a"), None)


async def test_a_gateway_without_a_lease_holds_nothing(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    await one.directory.write([opened("a")], REPLACE)
    await one.directory.watch("acme", "device:lamp-1")
    assert sorted(await two.directory.gateways()) == ["one", "two"]

    async def over() -> bool:
        await two.directory.renew()
        return await seen(two, "acme", "lamp-1") == Entry(None, None)

    await eventually(over)
    assert await two.directory.gateways() == ["two"]
    assert await two.directory.watchers("acme", "device:lamp-1") == []
    (standing,) = await two.directory.write([opened("b", age_ms=60_000)], REPLACE)
    assert (standing.rival, standing.wins) == (None, True)
    # It was only held up: with a lease, what names it counts again.
    await one.directory.renew()
    assert sorted(await two.directory.gateways()) == ["one", "two"]
    await one.directory.leave()
    assert await two.directory.gateways() == ["two"]


async def test_who_was_forgotten_is_told_so(world: World) -> None:
    one = await world.join("one")
    assert await one.directory.renew()
    await one.directory.leave()
    assert not await one.directory.renew()
    assert await one.directory.renew()


async def test_who_watches_is_told_to_who_holds(world: World) -> None:
    one, two = await world.join("one"), await world.join("two")
    await two.directory.watch("acme", "device:lamp-1")
    await two.directory.watch("acme", "device:lamp-1")
    await one.directory.watch("other", "device:lamp-1")
    assert await one.directory.watchers("acme", "device:lamp-1") == ["two"]
    assert await one.directory.watchers("acme", "device:lamp-2") == []
    (standing,) = await one.directory.write([opened("a")], REPLACE)
    assert standing.watchers == ("two",)
    await one.directory.watch("acme", "device:lamp-1")
    assert sorted(await one.directory.watchers("acme", "device:lamp-1")) == ["one", "two"]
    await one.directory.unwatch("acme", "device:lamp-1")
    await two.directory.unwatch("acme", "device:lamp-1")
    await two.directory.unwatch("acme", "device:lamp-1")
    assert await one.directory.watchers("acme", "device:lamp-1") == []


async def test_a_key_stands_for_one_request(world: World) -> None:
    attempts, others = (await world.join("one")).attempts, (await world.join("two")).attempts
    assert await attempts.claim("k", b"on", 60_000) == Claim(Claimed.NEW)
    assert await others.claim("k", b"on", 60_000) == Claim(Claimed.RUNNING)
    assert await others.claim("k", b"off", 60_000) == Claim(Claimed.OTHER)
    assert await others.claim("{k}:平和", b"on", 60_000) == Claim(Claimed.NEW)
    await attempts.settle("k", b"on", b"\x00done", 60_000)
    assert await others.claim("k", b"on", 60_000) == Claim(Claimed.DONE, b"\x00done")
    assert await others.claim("k", b"off", 60_000) == Claim(Claimed.OTHER)
    await attempts.release("k")
    assert await others.claim("k", b"off", 60_000) == Claim(Claimed.NEW)


async def test_a_key_is_forgotten_in_time(world: World) -> None:
    attempts = (await world.join("one")).attempts
    assert await attempts.claim("k", b"on", 50) == Claim(Claimed.NEW)

    async def forgotten() -> bool:
        return await attempts.claim("k", b"off", 60_000) == Claim(Claimed.NEW)

    await eventually(forgotten)
    await attempts.settle("k", b"off", b"done", 50)

    async def forgotten_again() -> bool:
        return await attempts.claim("k", b"on", 60_000) == Claim(Claimed.NEW)

    await eventually(forgotten_again)
