"""Channels without sockets: subscribers that take or do not, a log in memory, and a fan-out over both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from gateway.channels.channel import Channel, Family, Kind
from gateway.channels.fanout import Fanout
from gateway.channels.log_ports import LogEvent, LogPage, LogSnapshot
from gateway.channels.subscribing import Subscribing
from gateway.errors import StoreError
from gateway.protocol.channel_messages import ChannelMessages
from gateway.wire.frames import payloads_of
from tests.support.fake_clock import FakeClock

RUN = Family("run", Kind.LOG, "progress:read")


class MemoryLog:
    """A ChannelLog in memory. `before` is awaited by every call; `down` makes each of them fail."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], list[LogEvent]] = {}
        self.kept_after: dict[tuple[str, str], int] = {}
        self.before: Callable[[], Awaitable[None]] = _at_once
        self.down = False
        self.reads = 0

    def create(self, account: str, subject: str) -> None:
        self.events[account, subject] = []
        self.kept_after[account, subject] = 0

    def append(self, account: str, subject: str, data: Any) -> int:
        """The offset that it got."""
        events = self.events[account, subject]
        offset = self._newest((account, subject)) + 1
        events.append(LogEvent(offset, offset * 1000, data))
        return offset

    def trim(self, account: str, subject: str, up_to: int) -> None:
        """Events up to this offset are kept no more."""
        key = (account, subject)
        self.events[key] = [event for event in self.events[key] if event.offset > up_to]
        self.kept_after[key] = max(up_to, self.kept_after[key])

    async def snapshot(self, account: str, subject: str) -> LogSnapshot | None:
        await self._ask()
        if (account, subject) not in self.events:
            return None
        newest = self._newest((account, subject))
        return LogSnapshot(newest, {"events": newest})

    async def read(self, account: str, subject: str, after: int, limit: int) -> LogPage | None:
        await self._ask()
        key = (account, subject)
        if key not in self.events:
            return None
        found = [event for event in self.events[key] if event.offset > after]
        return LogPage(found[:limit], len(found) > limit, self.kept_after[key], self._newest(key))

    async def newest(self, channels: Sequence[tuple[str, str]]) -> Sequence[int]:
        await self._ask()
        return [self._newest(key) if key in self.events else 0 for key in channels]

    def newest_of(self, account: str, subject: str) -> int:
        """The offset of its last event."""
        return self._newest((account, subject))

    def _newest(self, key: tuple[str, str]) -> int:
        events = self.events[key]
        return events[-1].offset if events else self.kept_after[key]

    async def _ask(self) -> None:
        self.reads += 1
        await self.before()
        if self.down:
            raise StoreError("it is down")


async def _at_once() -> None: ...


class FakeSubscriber:
    """A connection that remembers what it was sent; while `slow` it takes no events."""

    def __init__(self, slot: int, account: str = "acme", *scopes: str, max_payload_bytes: int = 16_380) -> None:
        self.slot = slot
        self.account_name = account
        self.scopes = set(scopes) or {"location:read", "progress:read"}
        self.max_payload_bytes = max_payload_bytes
        self.slow = False
        self.pieces = 0
        self.pushed = asyncio.Event()
        self.defect: Exception | None = None
        self.failures: list[Exception] = []
        self._heard: list[Any] = []

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def send(self, payload: bytes) -> None:
        self._heard.append(msgspec.json.decode(payload))

    def failed(self, error: Exception) -> None:
        self.failures.append(error)

    def push(self, frame: bytes) -> bool:
        if self.defect is not None:
            raise self.defect
        if not self.slow:
            self.pieces += 1
            self.pushed.set()
            self._heard += map(msgspec.json.decode, payloads_of(frame))
        return not self.slow

    def hear(self) -> list[Any]:
        """What it was sent since the last call."""
        heard, self._heard = self._heard, []
        return heard


class Neighbours:
    """Remembers what it was told; `wanted_elsewhere` are the channels that others subscribed to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Channel]] = []
        self.wanted_elsewhere: set[Channel] = set()

    @property
    def is_idle(self) -> bool:
        return not self.wanted_elsewhere

    def wanted(self, channel: Channel) -> None:
        self.told.append(("wanted", channel))

    def unwanted(self, channel: Channel) -> None:
        self.told.append(("unwanted", channel))

    def wants(self, channel: Channel) -> bool:
        return channel in self.wanted_elsewhere

    def publish(self, channel: Channel, change: Any) -> None:
        self.told.append(("publish", channel))

    def hint(self, channel: Channel) -> None:
        self.told.append(("hint", channel))


class Hall:
    """A fan-out with one family of logs, `run:<name>`, and subscribers by slot. Made on a running loop."""

    def __init__(self, maximum: int = 100, slots: int = 16) -> None:
        self.log = MemoryLog()
        self.neighbours = Neighbours()
        self.holders: list[FakeSubscriber | None] = [None] * slots
        words = ChannelMessages()
        self.clock = FakeClock()
        self.fanout = Fanout(self.holders, words, self.clock, self.neighbours)
        self.fanout.offer_log(RUN, self.log)
        self.short = False
        self.subscribing = Subscribing(self.fanout, words, maximum, lambda: self.short)

    def join(self, slot: int, account: str = "acme", *scopes: str, max_payload_bytes: int = 16_380) -> FakeSubscriber:
        subscriber = FakeSubscriber(slot, account, *scopes, max_payload_bytes=max_payload_bytes)
        self.holders[slot] = subscriber
        return subscriber

    def part(self, subscriber: FakeSubscriber) -> None:
        """Its connection ended."""
        self.subscribing.closed(subscriber)
        self.holders[subscriber.slot] = None

    def wake(self, subscriber: FakeSubscriber) -> None:
        """It takes events again."""
        subscriber.slow = False
        self.subscribing.writable(subscriber)

    async def settle(self) -> None:
        """Until nothing is left to read."""
        while reads := [task for task in asyncio.all_tasks() if task.get_name() == "channel-read"]:
            await asyncio.wait(reads)
