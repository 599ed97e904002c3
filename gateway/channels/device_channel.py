"""The channels `device:<id>`: where a device is, and whether it is connected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gateway.channels.channel import DEVICE, device_channel
from gateway.channels.device_state import DeviceState, Position, merged, position_of, shown
from gateway.channels.fanout import Fanout
from gateway.connections.registry import Registry
from gateway.errors import BrokerDownError, StoreError
from gateway.identity.identity import name_problem
from gateway.locations.event import LocationEvent
from gateway.locations.query import Found


class Latest(Protocol):
    """Knows where devices were last."""

    async def latest(self, account: str, device: str) -> Found | None:
        """The event with the newest time; None: there is none. Raises StoreError."""


class Elsewhere(Protocol):
    """What other gateways know of devices."""

    async def state(self, account: str, device: str) -> DeviceState | None:
        """None: nothing. Raises BrokerDownError."""

    def number(self, slot: int) -> int:
        """The number of a connection of ours among all of its device; 0: it has none yet."""


class DeviceChannel:
    """The source of these channels, and who is told of what devices of this gateway do.

    `elsewhere` None: this is the only gateway.
    """

    def __init__(self, registry: Registry, search: Latest, fanout: Fanout, elsewhere: Elsewhere | None = None) -> None:
        self._registry = registry
        self._search = search
        self._fanout = fanout
        self._elsewhere = elsewhere
        fanout.offer_latest(DEVICE, self)

    def moved(self, account: str, device: str, events: Sequence[LocationEvent]) -> None:
        """These events are durable."""
        if self._fanout.is_idle:
            return
        channel = device_channel(account, device)
        if self._fanout.listens(channel):
            newest = max(events, key=_time)
            position = Position(
                newest.time, newest.lat, newest.lon, newest.accuracy, newest.altitude, newest.speed, newest.heading
            )
            self._fanout.publish(channel, DeviceState(position=position))

    def connection_changed(self, account: str, device: str, slot: int) -> None:
        """It came or left, or one of its connections did: the one in `slot`."""
        if self._fanout.is_idle:
            return
        channel = device_channel(account, device)
        if self._fanout.listens(channel):
            newest = self._registry.newest(account, device)
            order = self._order(slot if newest is None else newest.slot)
            self._fanout.publish(channel, DeviceState(connected=newest is not None, order=order))

    def here(self, account: str, device: str) -> DeviceState:
        """What this gateway knows of a device that is connected to it."""
        newest = self._registry.newest(account, device)
        if newest is None:
            return DeviceState()
        held = newest.position()
        return DeviceState(True, None if held is None else position_of(held), self._order(newest.slot))

    # The source

    async def read(self, account: str, device: str) -> DeviceState | None:
        """What is known of it here and in the index; None: nothing at all. Raises StoreError."""
        if name_problem(device):
            return None
        held = self._registry.latest(account, device)
        found = None
        if held is None:
            found = await self._search.latest(account, device)
        connected = self._is_connected(account, device)
        position = _stored(found) if held is None else position_of(held)
        left = self._registry.last_disconnect(account, device) is not None
        here = DeviceState(connected, position) if connected or left or position is not None else None
        there = None if connected else await self._there(account, device, alone=here is None)
        return here if there is None else merged(here, there)

    async def _there(self, account: str, device: str, *, alone: bool) -> DeviceState | None:
        """What others know; `alone`: nothing is known here. Then nobody can say whether there is such a device."""
        if self._elsewhere is None:
            return None
        try:
            return await self._elsewhere.state(account, device)
        except BrokerDownError as error:
            if alone:
                raise StoreError(f"other gateways cannot be asked: {error}") from error
            return None

    def merge(self, known: DeviceState | None, other: DeviceState) -> DeviceState:
        """See `device_state.merged`."""
        return merged(known, other)

    def show(self, state: DeviceState) -> Any:
        """See `device_state.shown`."""
        return shown(state)

    def _order(self, slot: int) -> int:
        """Which of two gateways knows better is told by the numbers of their connections."""
        return 0 if self._elsewhere is None else self._elsewhere.number(slot)

    def _is_connected(self, account: str, device: str) -> bool:
        return self._registry.newest(account, device) is not None


def _time(event: LocationEvent) -> int:
    return event.time


def _stored(found: Found | None) -> Position | None:
    if found is None:
        return None
    return Position(found.time, found.lat, found.lon, found.accuracy, found.altitude, found.speed, found.heading)
