"""Feeds subscribers of log channels from the store: every event, in order, once.

A hint says that there is something; a poll each second is what can be relied on. One reader a channel reads for one
offset at a time, and whoever is at that offset, or further within the page, gets its part.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from gateway.channels.channel import Kind
from gateway.channels.log_ports import ChannelLog, LogPage
from gateway.channels.outlet import NOT_FOUND, READ_TIMEOUT_S, Outlet
from gateway.channels.refusal import Refusal
from gateway.channels.subscribers import LogSubscribers
from gateway.errors import StoreError
from gateway.telemetry.log import Log

PAGE_EVENTS = 100
# What is handed to a connection in one piece: a slow one may have as much unsent before it shows (4503 is at 256 KiB).
PAGE_BYTES = 32_768
_KIND = Kind.LOG.value
_log = Log("channels")


class _Gap(NamedTuple):
    """An offset that events cannot go on after."""

    refusal: Refusal
    message: str


class LogFeed:
    """`read` is called for one channel by one reader at a time."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self.failing = False

    async def read(self, subscribers: LogSubscribers, log: ChannelLog) -> None:
        """Begin subscriptions that are opening, then deliver until all who take events have all there are.

        When the store cannot tell, those who are opening are refused, and the others wait for the next poll.
        """
        try:
            if subscribers.opening:
                await self._open(subscribers, log)
            while subscribers.due and not subscribers.opening:
                subscribers.due = False
                for offset in subscribers.offsets():
                    await self._deliver(subscribers, log, offset)
        except (StoreError, TimeoutError) as error:
            if not self.failing:
                _log.warning("channel_log_unreadable", channel=subscribers.channel.family, message=str(error))
            self.failing = True
            for slot in list(subscribers.opening):
                said = "its events cannot be read now; subscribe again later"
                self._outlet.refuse(subscribers, slot, Refusal.UNAVAILABLE, said)
        else:
            self.failing = False

    async def _open(self, subscribers: LogSubscribers, log: ChannelLog) -> None:
        """Those without an offset get a snapshot; the others are told that they go on."""
        channel = subscribers.channel
        if any(after is None for after in subscribers.opening.values()):
            await self._snapshot(subscribers, log, {})
        elif (await self._page(subscribers, log, 0, 1)) is None:
            self._refuse_all(subscribers)
        for slot, after in list(subscribers.opening.items()):
            if after is not None:
                self._outlet.tell(slot, self._outlet.writing.subscribed(channel.name, after, None))
                subscribers.place(slot, after)

    async def _snapshot(self, subscribers: LogSubscribers, log: ChannelLog, gaps: dict[int, _Gap]) -> None:
        """Those who are opening without an offset begin with a snapshot; those of `gaps` are told why they have to."""
        channel, writing = subscribers.channel, self._outlet.writing
        async with asyncio.timeout(READ_TIMEOUT_S):
            found = await log.snapshot(channel.account, channel.subject)
        if found is None:
            self._refuse_all(subscribers)
            return
        message = writing.subscribed(channel.name, found.offset, found.state)
        for slot, gap in gaps.items():
            if slot in subscribers.behind or slot in subscribers.live:
                self._outlet.refused[gap.refusal] += 1
                self._outlet.tell(slot, writing.refused(channel.name, gap.refusal, gap.message))
                self._outlet.tell(slot, message)
                subscribers.place(slot, found.offset)
        for slot in [slot for slot, after in subscribers.opening.items() if after is None]:
            self._outlet.tell(slot, message)
            subscribers.place(slot, found.offset)

    async def _deliver(self, subscribers: LogSubscribers, log: ChannelLog, after: int) -> None:
        page = await self._page(subscribers, log, after, PAGE_EVENTS)
        if page is None:
            self._refuse_all(subscribers)
            return
        gap = _gap(page, after)
        if gap is not None:
            await self._snapshot(subscribers, log, dict.fromkeys(subscribers.at(after), gap))
            return
        messages = self._messages(subscribers, page)
        offsets = [event.offset for event in page.events[: len(messages)]]
        more = page.more or len(messages) < len(page.events)
        for slots, first, own in subscribers.deliver(after, offsets):
            for slot in self._outlet.push(subscribers, slots, messages[first:], _KIND):
                subscribers.lag(slot, own)
        subscribers.due = subscribers.due or more

    def _messages(self, subscribers: LogSubscribers, page: LogPage) -> list[bytes]:
        """As many of the events as make `PAGE_BYTES`, and at least one."""
        messages: list[bytes] = []
        left = PAGE_BYTES
        for event in page.events:
            message = self._outlet.writing.event(subscribers.channel.name, event.offset, event.time_ms, event.data)
            left -= len(message)
            if messages and left < 0:
                break
            messages.append(message)
        return messages

    async def _page(self, subscribers: LogSubscribers, log: ChannelLog, after: int, limit: int) -> LogPage | None:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await log.read(subscribers.channel.account, subscribers.channel.subject, after, limit)

    def _refuse_all(self, subscribers: LogSubscribers) -> None:
        """It does not exist, or does not any more."""
        for slot in [*subscribers.opening, *subscribers.live, *subscribers.behind]:
            self._outlet.refuse(subscribers, slot, Refusal.NOT_FOUND, NOT_FOUND)


def _gap(page: LogPage, after: int) -> _Gap | None:
    """Why the page does not go on where it was asked to; None: it does."""
    if after < page.kept_after:
        return _Gap(Refusal.OFFSET_TOO_OLD, f"what came after {after} is kept only from {page.kept_after + 1} on")
    if not page.events and after > page.newest:
        return _Gap(Refusal.OFFSET_TOO_NEW, f"{after} was not given out yet: the newest is {page.newest}")
    return None
