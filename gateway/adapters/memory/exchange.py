"""Broker, directory and attempts in this process: for several gateways in one test, and one contract for all adapters.

An Exchange is what the gateways have in common, as a server would be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.channels.directory import (
    LEASE_S,
    Change,
    Closed,
    Duplicates,
    Entry,
    Holder,
    Opened,
    Standing,
    order_of,
    wins,
)
from gateway.clock import Clock
from gateway.connections.info import DisconnectInfo
from gateway.errors import BrokerDownError


class _Row(NamedTuple):
    holder: Holder | None
    order: int
    last: DisconnectInfo | None


class Exchange:
    """`problem` not "": it is away, and everything that asks it raises BrokerDownError."""

    def __init__(self, clock: Clock, lease_s: float = LEASE_S) -> None:
        self.clock = clock
        self.lease_s = lease_s
        self.problem = ""
        self.inboxes: dict[str, Callable[[bytes], None]] = {}
        self.rows: dict[tuple[str, str], _Row] = {}
        self.leases_s: dict[str, float] = {}
        self.interest: dict[tuple[str, str], set[str]] = {}
        self.counter = 0
        self.posts = 0

    def check(self) -> None:
        if self.problem:
            raise BrokerDownError(self.problem)

    def alive(self, gateway: str) -> bool:
        return self.clock.monotonic_s() < self.leases_s.get(gateway, float("-inf"))

    def next_order(self) -> int:
        self.counter = max(self.counter + 1, int(self.clock.monotonic_s() * 1e6))
        return self.counter


class MemoryBroker:
    """The Broker port."""

    def __init__(self, exchange: Exchange, gateway: str) -> None:
        self._exchange = exchange
        self.gateway = gateway
        self._receive: Callable[[bytes], None] = lambda _: None
        self._returned: Callable[[], None] = lambda: None

    @property
    def problem(self) -> str:
        return self._exchange.problem

    def listen(self, receive: Callable[[bytes], None], returned: Callable[[], None]) -> None:
        self._receive = receive
        self._returned = returned

    async def post(self, gateway: str, envelope: bytes) -> bool:
        self._exchange.check()
        self._exchange.posts += 1
        receive = self._exchange.inboxes.get(gateway)
        if receive is None:
            return False
        asyncio.get_running_loop().call_soon(receive, envelope)
        return True

    async def run(self) -> None:
        self._exchange.inboxes[self.gateway] = self._receive
        self._returned()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._exchange.inboxes.pop(self.gateway, None)

    async def close(self) -> None:
        self._exchange.inboxes.pop(self.gateway, None)


class MemoryDirectory:
    """The Directory port."""

    def __init__(self, exchange: Exchange, gateway: str) -> None:
        self._exchange = exchange
        self._gateway = gateway

    async def write(self, changes: Sequence[Change], rule: Duplicates) -> list[Standing]:
        self._exchange.check()
        return [
            self._opened(change, rule) if isinstance(change, Opened) else self._closed(change) for change in changes
        ]

    def _opened(self, change: Opened, rule: Duplicates) -> Standing:
        exchange, key = self._exchange, (change.account, change.device)
        order = order_of(change, exchange.next_order())
        row = exchange.rows.get(key, _Row(None, 0, None))
        watchers = tuple(sorted(self._watchers(change.account, f"device:{change.device}")))
        rival = row.holder
        if rival is not None and (rival.connection == change.connection or not exchange.alive(rival.gateway)):
            rival = None
        ours = rival is None or wins(order, row.order, rule)
        if ours:
            exchange.rows[key] = _Row(Holder(self._gateway, change.connection), order, row.last)
        return Standing(order, rival, ours, watchers)

    def _closed(self, change: Closed) -> Standing:
        key = (change.account, change.device)
        row = self._exchange.rows.get(key)
        if row is not None and row.holder == Holder(self._gateway, change.connection):
            self._exchange.rows[key] = _Row(None, row.order, change.last or row.last)
        return Standing()

    async def find(self, account: str, device: str) -> Entry | None:
        self._exchange.check()
        row = self._exchange.rows.get((account, device))
        if row is None:
            return None
        alive = row.holder is not None and self._exchange.alive(row.holder.gateway)
        return Entry(row.holder if alive else None, row.last, row.order)

    async def renew(self) -> bool:
        self._exchange.check()
        known = self._exchange.alive(self._gateway)
        self._exchange.leases_s[self._gateway] = self._exchange.clock.monotonic_s() + self._exchange.lease_s
        return known

    async def leave(self) -> None:
        self._exchange.check()
        self._exchange.leases_s.pop(self._gateway, None)

    async def gateways(self) -> list[str]:
        self._exchange.check()
        return [gateway for gateway in self._exchange.leases_s if self._exchange.alive(gateway)]

    async def watch(self, account: str, channel: str) -> None:
        self._exchange.check()
        self._exchange.interest.setdefault((account, channel), set()).add(self._gateway)

    async def unwatch(self, account: str, channel: str) -> None:
        self._exchange.check()
        self._exchange.interest.get((account, channel), set()).discard(self._gateway)

    async def watchers(self, account: str, channel: str) -> list[str]:
        self._exchange.check()
        return self._watchers(account, channel)

    def _watchers(self, account: str, channel: str) -> list[str]:
        gateways = self._exchange.interest.get((account, channel), ())
        return [gateway for gateway in gateways if self._exchange.alive(gateway)]
