"""The channels `device:<id>`: where a device is, and whether it is connected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gateway.channels.channel import DEVICE, device_channel
from gateway.channels.device_state import DeviceState, Position, merged, shown
from gateway.channels.fanout import Fanout
from gateway.connections.registry import Registry
from gateway.identity.identity import name_problem
from gateway.locations.event import LocationEvent
from gateway.locations.query import Found


class Latest(Protocol):
    """Knows where devices were last."""

    async def latest(self, account: str, device: str) -> Found | None:
        """The event with the newest time; None: there is none. Raises StoreError."""


class DeviceChannel:
    """The source of these channels, and who is told of what devices of this gateway do."""

    def __init__(self, registry: Registry, search: Latest, fanout: Fanout) -> None:
        self._registry = registry
        self._search = search
        self._fanout = fanout
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

    def connection_changed(self, account: str, device: str) -> None:
        """It came or left, or one of its connections did."""
        if self._fanout.is_idle:
            return
        channel = device_channel(account, device)
        if self._fanout.listens(channel):
            self._fanout.publish(channel, DeviceState(connected=self._is_connected(account, device)))

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
        position = _held(held) or _stored(found)
        left = self._registry.last_disconnect(account, device) is not None
        return DeviceState(connected, position) if connected or left or position is not None else None

    def merge(self, known: DeviceState | None, other: DeviceState) -> DeviceState:
        """See `device_state.merged`."""
        return merged(known, other)

    def show(self, state: DeviceState) -> Any:
        """See `device_state.shown`."""
        return shown(state)

    def _is_connected(self, account: str, device: str) -> bool:
        return self._registry.newest(account, device) is not None


def _time(event: LocationEvent) -> int:
    return event.time


def _held(found: dict[str, Any] | None) -> Position | None:
    return None if found is None else Position(found["time"], found["lat"], found["lon"])


def _stored(found: Found | None) -> Position | None:
    if found is None:
        return None
    return Position(found.time, found.lat, found.lon, found.accuracy, found.altitude, found.speed, found.heading)
