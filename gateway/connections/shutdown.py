"""Closing all connections evenly when the process has to go."""

from __future__ import annotations

import asyncio
import contextlib
import math

from gateway.connections.hub import TICK_S, Hub

# Two hundred a second disturb nobody, and one laptop device is gone in a second.
_CLOSES_PER_S = 200
_BEFORE_KILL_S = 10.0


def window_s(connections: int, stop_timeout_s: float) -> float:
    """How long to spread the closes: min(stop time-out − 10 s, max(1 s, n / 200)); never below 0.25 s."""
    return max(TICK_S, min(stop_timeout_s - _BEFORE_KILL_S, max(1.0, connections / _CLOSES_PER_S)))


def due(left: int, left_s: float) -> int:
    """How many of the `left` connections to close in this tick, so that the last goes when the time is over."""
    return left if left_s <= TICK_S else math.ceil(left * TICK_S / left_s)


async def leave_all(hub: Hub, stop_timeout_s: float) -> int:
    """Send every websocket away, paced; returns how many. Cancelled: the rest stays open."""
    waiting = hub.registry.all()
    hub.chance.shuffle(waiting)
    total = len(waiting)
    end_s = hub.clock.monotonic_s() + window_s(total, stop_timeout_s)
    while waiting:
        for _ in range(due(len(waiting), end_s - hub.clock.monotonic_s())):
            waiting.pop().leave("shutdown", "shutdown")
        if waiting:
            await asyncio.sleep(TICK_S)
    return total


async def all_gone(hub: Hub, within_s: float) -> int:
    """Wait until no connection is open, at most so long; then end the rest at once. Returns how many those were."""
    if hub.registry.total:
        hub.emptied.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hub.emptied.wait(), within_s)
    rest = hub.registry.all()
    for connection in rest:
        connection.transport.abort()
    return len(rest)
