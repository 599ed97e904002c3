"""A real broker that is killed, stopped, emptied, demoted or slow. Each of these has happened to others first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.channels.directory import Duplicates, Entry, Holder, Opened
from gateway.errors import BrokerDownError
from loadtest.processes.ports import free_port
from tests.support.brokers import DEADLINE_S, Peer, World, eventually, on_server
from tests.support.redis_server import BINARIES, RedisServer, redis_binary

# What people are promised: all is right this long after the broker is back.
BACK_S = 3.0
# A hung server is noticed by the beat, and by whoever asks.
HUNG_S = 5.0


@pytest.fixture(params=list(BINARIES))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(BINARIES[request.param](), tmp_path)
    server.start()
    yield server
    server.thaw()
    server.kill()


@pytest.fixture
async def world(server: RedisServer) -> AsyncIterator[World]:
    world = on_server(server)
    yield world
    await world.close()


async def down(peer: Peer, within_s: float = HUNG_S) -> None:
    async def is_down() -> bool:
        return bool(peer.broker.problem)

    await eventually(is_down, within_s)


async def refused(asking: Awaitable[Any]) -> BrokerDownError:
    """It is refused at once, not after a time-out."""
    began_s = time.monotonic()
    with pytest.raises(BrokerDownError) as caught:
        await asking
    assert time.monotonic() - began_s < 0.5
    return caught.value


async def all_is_well(*peers: Peer) -> None:
    for peer in peers:
        await asyncio.wait_for(peer.returns.get(), BACK_S + 1)
        assert peer.broker.problem == ""
        await peer.directory.renew()
    for peer in peers:
        for other in peers:
            assert await other.broker.post(peer.broker.gateway, b"hello")
            assert await peer.received() == b"hello"
    assert sorted(await peers[0].directory.gateways()) == sorted(peer.broker.gateway for peer in peers)


async def test_killed_and_started_empty(world: World, server: RedisServer) -> None:
    one, two = await world.join("one"), await world.join("two")
    opened = [Opened("acme", "lamp", "a", 0)]
    (first,) = await one.directory.write(opened, Duplicates.REPLACE)
    server.kill()
    await down(one)
    await down(two)
    for asking in (one.broker.post("two", b"x"), one.directory.find("a", "b"), one.attempts.claim("k", b"x", 1000)):
        error = await refused(asking)
        assert not error.sent
        assert str(server.port) in str(error)
    server.start()
    await all_is_well(one, two)
    assert await two.directory.find("acme", "lamp") is None
    # Its scripts are gone as well, and its counter does not fall behind what was given out.
    (again,) = await one.directory.write([opened[0]._replace(order=first.order)], Duplicates.REPLACE)
    (newer,) = await two.directory.write([Opened("acme", "lamp", "b", 0)], Duplicates.REPLACE)
    assert again.order == first.order < newer.order
    assert newer.rival == Holder("one", "a")


async def test_hung_and_woken(world: World, server: RedisServer) -> None:
    one, two = await world.join("one"), await world.join("two")
    server.freeze()
    began_s = time.monotonic()
    with pytest.raises(BrokerDownError) as caught:
        await one.broker.post("two", b"x")
    assert caught.value.sent
    assert time.monotonic() - began_s < HUNG_S
    await down(one)
    await down(two)
    await refused(one.broker.post("two", b"x"))
    server.thaw()
    await all_is_well(one, two)


async def test_an_inbox_that_is_cut_is_told_of_its_return(world: World, server: RedisServer) -> None:
    one, two = await world.join("one"), await world.join("two")
    assert server.ask("CLIENT", "KILL", "TYPE", "pubsub") == ":2"
    await all_is_well(one, two)


async def test_where_only_commands_are_cut_none_is_lost(world: World, server: RedisServer) -> None:
    one, two = await world.join("one"), await world.join("two")
    server.ask("CLIENT", "KILL", "TYPE", "normal")

    async def arrives() -> bool:
        try:
            return await one.broker.post("two", b"x")
        except BrokerDownError:
            return False

    await eventually(arrives, BACK_S)
    assert await two.received() == b"x"


async def test_a_primary_that_became_a_replica_is_left(world: World, server: RedisServer, tmp_path: Path) -> None:
    one, two = await world.join("one"), await world.join("two")
    other = RedisServer(redis_binary(), tmp_path)
    other.start()
    try:
        server.ask("REPLICAOF", "127.0.0.1", str(other.port))
        with pytest.raises(BrokerDownError):
            await one.directory.renew()
        await down(one)
        server.ask("REPLICAOF", "NO", "ONE")
        await asyncio.wait_for(one.returned(), BACK_S + 1)
        await one.directory.renew()
        await two.directory.renew()
    finally:
        other.kill()


async def test_a_subscriber_that_is_too_slow_is_cut_and_comes_back(world: World, server: RedisServer) -> None:
    one, two = await world.join("one"), await world.join("two")
    server.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
    # Whether it is too slow is up to the machine: again, until it was.
    for _ in range(10):
        posts = (one.broker.post("two", bytes(1 << 20)) for _ in range(50))
        await asyncio.gather(*posts, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(two.returns.get(), BACK_S)
            break
    else:
        pytest.fail("it was never cut")
    while not two.inbox.empty():
        assert len(two.inbox.get_nowait()) == 1 << 20
    assert await one.broker.post("two", b"after")
    assert await two.received() == b"after"


async def test_askers_that_give_up_get_nobody_elses_answer(world: World, server: RedisServer) -> None:
    one, _ = await world.join("one"), await world.join("two")
    opened = [Opened("acme", f"lamp-{number}", f"c{number}", 0) for number in range(50)]
    await one.directory.write(opened, Duplicates.REPLACE)
    for _ in range(5):
        server.ask("CLIENT", "PAUSE", "100", "ALL")
        asking = [asyncio.create_task(one.directory.find("acme", f"lamp-{number}")) for number in range(50)]
        await asyncio.sleep(0)
        for number in range(0, 50, 2):
            asking[number].cancel()
        found = await asyncio.gather(*asking, return_exceptions=True)
        for number in range(1, 50, 2):
            entry = found[number]
            assert isinstance(entry, Entry)
            assert entry.holder == Holder("one", f"c{number}")


async def test_a_counter_that_is_ahead_of_the_clock_keeps_counting(world: World, server: RedisServer) -> None:
    one, two = await world.join("one"), await world.join("two")
    (first,) = await one.directory.write([Opened("acme", "lamp", "a", 0)], Duplicates.REPLACE)
    ahead = first.order + 10**12
    (key,) = [name for name in server.keys() if name.endswith(":counter")]  # noqa: SIM118 - no mapping
    server.ask("SET", key, str(ahead))
    (second,) = await two.directory.write([Opened("acme", "lamp", "b", 0)], Duplicates.REPLACE)
    (third,) = await one.directory.write([Opened("acme", "lamp", "c", 0)], Duplicates.REPLACE)
    assert ahead < second.order < third.order
    assert (second.wins, third.wins) == (True, True)


async def test_a_server_without_memory_counts_as_away(world: World, server: RedisServer) -> None:
    one, two = await world.join("one"), await world.join("two")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    await down(one)
    await down(two)
    # Not that the device is offline: its gateway's lease cannot be prolonged.
    assert "maxmemory" in str(await refused(one.directory.find("acme", "lamp")))
    server.ask("CONFIG", "SET", "maxmemory", "0")
    await all_is_well(one, two)


async def test_a_slot_that_goes_elsewhere_takes_the_subscription_with_it(tmp_path: Path) -> None:
    server = RedisServer(redis_binary(), tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.start()
    world = on_server(server)
    try:
        server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")

        async def ready() -> bool:
            return "cluster_state:ok" in server.ask("CLUSTER", "INFO")

        await eventually(ready)
        one, two = await world.join("one"), await world.join("two")
        (key,) = [name for name in server.keys() if name.endswith(":gateways")]  # noqa: SIM118 - no mapping
        slot = server.ask("CLUSTER", "KEYSLOT", key).lstrip(":")
        server.ask("CLUSTER", "DELSLOTS", slot)
        await down(one)
        await down(two)
        server.ask("CLUSTER", "ADDSLOTS", slot)
        await all_is_well(one, two)
    finally:
        await world.close()
        server.kill()


async def test_a_server_before_sharded_channels_serves_as_well(tmp_path: Path) -> None:
    server = RedisServer(
        redis_binary(), tmp_path, "--rename-command", "SSUBSCRIBE", "", "--rename-command", "SPUBLISH", ""
    )
    server.start()
    world = on_server(server)
    try:
        one, two = await world.join("one"), await world.join("two")
        assert await one.broker.post("two", b"hello")
        assert await two.received() == b"hello"
    finally:
        await world.close()
        server.kill()


async def test_nobody_is_there_at_first(tmp_path: Path) -> None:
    server = RedisServer(redis_binary(), tmp_path)
    world = on_server(server)
    peer = world.make("one")
    world.peers.append(peer)
    joining = asyncio.create_task(peer.start())
    try:
        await refused(peer.broker.post("one", b"x"))
        server.start()
        await asyncio.wait_for(joining, DEADLINE_S)
    finally:
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        await world.close()
        server.kill()


async def test_a_socket_of_this_machine_will_do(tmp_path: Path) -> None:
    server = RedisServer(redis_binary(), tmp_path, "--unixsocket", str(tmp_path / "s"))
    server.start()
    world = on_server(server, url=f"unix://{tmp_path / 's'}")
    try:
        one, two = await world.join("one"), await world.join("two")
        assert await one.broker.post("two", b"hello")
        assert await two.received() == b"hello"
    finally:
        await world.close()
        server.kill()
