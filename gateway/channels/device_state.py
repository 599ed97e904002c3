"""The state of a device as its channel tells it: whether it is connected, and where it was last. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class Position(Struct, frozen=True, omit_defaults=True, gc=False):
    """Where it was; the fields of a `location` that it was measured with."""

    time: int
    lat: float
    lon: float
    accuracy: float | None = None
    altitude: float | None = None
    speed: float | None = None
    heading: float | None = None


class DeviceState(Struct, frozen=True, array_like=True, gc=False):
    """What one gateway knows of it; None: nothing. A `connected` with a larger `order` is newer; with the same, the
    one that was told later."""

    connected: bool | None = None
    position: Position | None = None
    order: int = 0


def merged(known: DeviceState | None, other: DeviceState) -> DeviceState:
    """The newest of both; `known` itself when `other` adds nothing."""
    if known is None:
        return other
    tells = other.connected is not None and (known.connected is None or other.order >= known.order)
    connected, order = (other.connected, other.order) if tells else (known.connected, known.order)
    position = _newer(known.position, other.position)
    if (connected, order) == (known.connected, known.order) and position is known.position:
        return known
    return DeviceState(connected, position, order)


def _newer(known: Position | None, other: Position | None) -> Position | None:
    """By the device's own time; of two at the same time the one that was told later."""
    if other is None or (known is not None and (known.time > other.time or known == other)):
        return known
    return other


def position_of(held: Mapping[str, Any]) -> Position:
    """The position that a connection knows of its device."""
    return Position(held["time"], held["lat"], held["lon"])


def shown(state: DeviceState) -> dict[str, Any]:
    """The data of an event."""
    return {"connected": bool(state.connected), "location": state.position}
