"""Brokers, directories and attempts of several gateways that share one exchange, whatever that is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.channels.ports import Attempts, Broker, Directory

DEADLINE_S = 10.0


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
