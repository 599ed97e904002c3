"""Who leaves first: at random among those who have nothing under way, and only then the others."""

from __future__ import annotations

from gateway.connections.connection import Connection
from gateway.connections.hub import Hub

# Slots tried at random before the table is searched: with nine in ten gone, 30 tries find one with 96 %.
_TRIES = 30


def choose(hub: Hub, *, busy_too: bool = True) -> Connection | None:
    """One that nobody has asked to leave; None: there is none (that is idle, without `busy_too`).

    Needs no list: slots are drawn until one fits, and the table is searched from a drawn place when chance fails.
    """
    slots = len(hub.holders)
    if not slots:
        return None
    busy: Connection | None = None
    for _ in range(_TRIES):
        found = _at(hub, hub.chance.randrange(slots))
        if found is not None and not found.busy:
            return found
        busy = busy or found
    begin = hub.chance.randrange(slots)
    for number in range(slots):
        found = _at(hub, (begin + number) % slots)
        if found is not None and not found.busy:
            return found
        busy = busy or found
    return busy if busy_too else None


def _at(hub: Hub, slot: int) -> Connection | None:
    holder = hub.holders[slot]
    return holder if isinstance(holder, Connection) and holder.stays else None
