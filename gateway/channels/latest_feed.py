"""Feeds subscribers of channels of the kind latest: a snapshot first, then each newer state.

Free of races by order: first listen, then read, then drop what is not newer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.channels.channel import Kind
from gateway.channels.latest_ports import LatestSource
from gateway.channels.outlet import NOT_FOUND, READ_TIMEOUT_S, Outlet
from gateway.channels.refusal import Refusal
from gateway.channels.subscribers import LatestSubscribers
from gateway.clock import Clock
from gateway.errors import StoreError

_KIND = Kind.LATEST.value


class LatestFeed:
    """`open` waits for a store; everything else happens at once."""

    def __init__(self, outlet: Outlet, clock: Clock) -> None:
        self._outlet = outlet
        self._clock = clock

    def take(self, subscribers: LatestSubscribers, source: LatestSource, change: Any) -> None:
        """The state has changed."""
        state = source.merge(subscribers.state, change)
        if state is subscribers.state:
            return
        subscribers.state, subscribers.event = state, None
        if subscribers.live:
            event = self._event(subscribers, source)
            for slot in self._outlet.push(subscribers, subscribers.live, (event,), _KIND):
                subscribers.lag(slot)
        if not subscribers.behind:
            # Everyone has it; it would take more than all the rest of most channels.
            subscribers.event = None

    def catch_up(self, subscribers: LatestSubscribers, source: LatestSource, slot: int) -> None:
        """This one takes events again."""
        if subscribers.catch_up(slot):
            for lagging in self._outlet.push(subscribers, (slot,), (self._event(subscribers, source),), _KIND):
                subscribers.lag(lagging)

    async def open(self, subscribers: LatestSubscribers, source: LatestSource) -> None:
        """Read the state unless it is known, and give it to those who are opening."""
        outlet, channel = self._outlet, subscribers.channel
        if not subscribers.read:
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    state = await source.read(channel.account, channel.subject)
            except (StoreError, TimeoutError) as error:
                said = f"its state cannot be read now; subscribe again later: {error or 'no answer in time'}"
                for slot in list(subscribers.opening):
                    outlet.refuse(subscribers, slot, Refusal.UNAVAILABLE, said)
                return
            if state is not None:
                self.take(subscribers, source, state)
            if subscribers.state is None:
                for slot in list(subscribers.opening):
                    outlet.refuse(subscribers, slot, Refusal.NOT_FOUND, NOT_FOUND)
                return
            subscribers.read = True
        self.greet(subscribers, source)

    def greet(self, subscribers: LatestSubscribers, source: LatestSource) -> None:
        """Those who are opening get the snapshot; the state is known."""
        message = self._outlet.writing.subscribed(subscribers.channel.name, None, source.show(subscribers.state))
        for slot in subscribers.opened():
            self._outlet.tell(slot, message)

    def _event(self, subscribers: LatestSubscribers, source: LatestSource) -> bytes:
        if subscribers.event is None:
            subscribers.event = self._outlet.writing.event(
                subscribers.channel.name, None, self._clock.time_ms(), source.show(subscribers.state)
            )
        return subscribers.event
