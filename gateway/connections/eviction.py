"""How connections are made to leave: which of them goes next, and what is left is cut. The caller has the policy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import chain, islice

from gateway.connections.connection import Connection
from gateway.connections.ending import Cause
from gateway.connections.hub import Hub
from gateway.wire.uuid7 import time_ms_of

# Slots tried at random before the table is searched: with nine in ten gone, 30 tries find one with 96 %.
_TRIES = 30
# Whose age ends so soon goes first: time enough for its turn at a close in twelve seconds. All ages are looked at once,
# for as long as most deployments take.
_SOON_S = 30.0
_DEPLOYMENT_S = 7200.0


class Elders:
    """Those that were open before a moment (ms since the Unix epoch), and whether there may be any left.

    First those whose age is nearly reached: they would leave all the same, at chance moments beside all others. `aged`
    counts them.
    """

    def __init__(self, before_ms: int) -> None:
        self.before_ms = before_ms
        self.left = True
        self.aged = 0
        self._ends: list[tuple[float, int]] | None = None

    def take(self, hub: Hub) -> Iterator[Connection]:
        """Those of them that nobody has asked to leave, as `choose`; once there is none, nobody is looked for again."""
        while self.left:
            idle = self._aged(hub) or _drawn(hub, idle=True, before_ms=self.before_ms)
            found = idle or _searched(hub, True, self.before_ms) or _searched(hub, False, self.before_ms)
            if found is None:
                self.left = False
                return
            yield found

    def _aged(self, hub: Hub) -> Connection | None:
        if self._ends is None:
            until_s = hub.now_s + _DEPLOYMENT_S / hub.hurry
            ends = ((at_s, slot) for slot, at_s in enumerate(hub.table.planned_s) if 0 < at_s < until_s)
            self._ends = sorted(ends, reverse=True)
        soon_s = _SOON_S / hub.hurry
        while self._ends and self._ends[-1][0] <= hub.now_s + soon_s:
            _, slot = self._ends.pop()
            # A token that ends is renewed; and another connection may have the slot by now.
            if hub.is_aged(slot, soon_s) and (found := _at(hub, slot, True, self.before_ms)) is not None:
                self.aged += 1
                return found
        return None


def evict(
    hub: Hub, cause: Cause, count: int, *, tick_s: float, spread_s: float, busy_too: bool, first: Elders | None = None
) -> int:
    """Ask as many as `count` connections to leave, those first that have nothing under way; returns how many it asked.

    `busy_too` false: only those. `first`: before all others. Each is to come back at a moment of its own: they are told
    evenly over `tick_s`, until the next are asked, and each up to `spread_s` later than that, drawn for it alone.
    """
    asked = 0
    chosen = choose(hub, busy_too=busy_too)
    if first is not None:
        chosen = chain(first.take(hub), chosen)
    for connection in islice(chosen, count):
        try:
            connection.leave(cause, more_s=tick_s * asked / count + hub.chance.uniform(0, spread_s))
        except Exception as error:
            # One that cannot be told must not keep the others from being told.
            connection.failed(error)
        asked += 1
    return asked


async def cut(hub: Hub, within_s: float) -> int:
    """Wait at most `within_s` until no connection is open; then end the rest at once. Returns how many it ended."""
    if hub.registry.total:
        hub.emptied.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await hub.emptied.wait()
        # After a stall the time is over at once: what has come in by then is read first.
        await asyncio.sleep(0)
    rest = [holder for holder in hub.holders if isinstance(holder, Connection)]
    for connection in rest:
        with contextlib.suppress(Exception):
            hub.outbox.flush(connection)
        connection.transport.abort()
    return len(rest)


def choose(hub: Hub, *, busy_too: bool = True) -> Iterator[Connection]:
    """Those that nobody has asked to leave; the caller asks each before it takes the next.

    Needs no list: slots are drawn until one fits, and the table is searched from a drawn place when chance fails. Once
    no connection is idle, the search for idle ones stops.
    """
    while (found := _drawn(hub, idle=True) or _searched(hub, idle=True)) is not None:
        yield found
    while busy_too and (found := _drawn(hub, idle=False) or _searched(hub, idle=False)) is not None:
        yield found


def _drawn(hub: Hub, idle: bool, before_ms: int | None = None) -> Connection | None:
    slots = len(hub.holders)
    for _ in range(_TRIES if slots else 0):
        found = _at(hub, hub.chance.randrange(slots), idle, before_ms)
        if found is not None:
            return found
    return None


def _searched(hub: Hub, idle: bool, before_ms: int | None = None) -> Connection | None:
    slots = len(hub.holders)
    begin = hub.chance.randrange(slots) if slots else 0
    places = ((begin + number) % slots for number in range(slots))
    return next((found for place in places if (found := _at(hub, place, idle, before_ms))), None)


def _at(hub: Hub, slot: int, idle: bool, before_ms: int | None) -> Connection | None:
    holder = hub.holders[slot]
    if not (isinstance(holder, Connection) and holder.stays) or (idle and holder.busy):
        return None
    return holder if before_ms is None or time_ms_of(hub.table.id_high[slot]) < before_ms else None
