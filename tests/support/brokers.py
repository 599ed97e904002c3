"""Brokers, directories and attempts of several gateways that share one exchange, whatever that is made of."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from gateway.adapters.redis.access import Access
from gateway.adapters.redis.broker import RedisAttempts, RedisBroker
from gateway.adapters.redis.directory import RedisDirectory
from gateway.adapters.redis.link import Link
from gateway.channels.ports import Attempts, Broker, Directory
from tests.support.redis_server import RedisServer

DEADLINE_S = 10.0
_numbers = itertools.count()


@dataclass
class Peer:
    """One gateway: what it has of each port, what came into its inbox, and how often it was told of a return."""

    broker: Broker
    directory: Directory
    attempts: Attempts
    inbox: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    returns: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.broker.listen(self.inbox.put_nowait, lambda: self.returns.put_nowait(None))
        self.task = asyncio.create_task(self.broker.run(), name="broker")
        await self.returned()
        await self.directory.renew()

    async def returned(self) -> None:
        await asyncio.wait_for(self.returns.get(), DEADLINE_S)

    async def received(self) -> bytes:
        return await asyncio.wait_for(self.inbox.get(), DEADLINE_S)

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.broker.close()


@dataclass
class World:
    """`make` gives the gateway of a name; `lease_s` is how long its lease lasts."""

    make: Callable[[str], Peer]
    lease_s: float
    peers: list[Peer] = field(default_factory=list)

    async def join(self, name: str) -> Peer:
        peer = self.make(name)
        self.peers.append(peer)
        await peer.start()
        return peer

    async def close(self) -> None:
        for peer in self.peers:
            await peer.stop()


def on_server(server: RedisServer, lease_s: float = 15.0, url: str = "") -> World:
    """Gateways on a real server, under a prefix that no other test has; `url` "": its port of TCP."""
    access = Access(url or server.url, prefix=f"t{next(_numbers)}")

    def make(name: str) -> Peer:
        link = Link(access, name, Random(1))
        return Peer(RedisBroker(link), RedisDirectory(link, lease_s), RedisAttempts(link))

    return World(make, lease_s)


async def eventually(check: Callable[[], Awaitable[bool]], within_s: float = DEADLINE_S) -> None:
    """Wait for what only a server can tell."""
    end_s = time.monotonic() + within_s
    while not await check():
        assert time.monotonic() < end_s, "it did not happen"
        await asyncio.sleep(0.02)
