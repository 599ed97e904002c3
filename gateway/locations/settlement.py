"""What became of a batch: its events sorted by outcome, and merged by sender."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.locations.batch import DeviceEvents
from gateway.locations.buffer import Caller
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability, Rejection

Part = tuple[Caller, DeviceEvents]
Poison = tuple[Caller, DeviceEvents, Rejection]
MESSAGES = {
    "overloaded": "too many location events are waiting; slow down",
    "shutting_down": "the gateway does not take location events now; send them again",
    "index_unavailable": "the index does not take location events now, and settings allow nothing else",
    "stream_unavailable": "neither the index nor the overflow stream takes location events now",
    "spool_full": "location events cannot be stored now: the spool is full",
    "clock": "the gateway's clock does not fit what devices send; send them again later",
    "account_full": "the account's events take as much as they may; older ones have to expire first",
    "storage_failed": "location events cannot be stored now: the disk refuses",
}


class Verdict(NamedTuple):
    """What became of some events: acknowledged with a durability, or refused with a code of `MESSAGES`."""

    parts: list[Part]
    durability: Durability | None = None
    code: str = ""
    retry_after_ms: int = 1000


def merge(parts: list[Part]) -> Iterator[tuple[Caller, Sequence[LocationEvent]]]:
    """The events of each caller, all of them together."""
    merged: dict[Caller, Sequence[LocationEvent]] = {}
    longer: dict[Caller, list[LocationEvent]] = {}
    for caller, group in parts:
        if caller not in merged:
            merged[caller] = group.events
        elif caller in longer:
            longer[caller] += group.events
        else:
            merged[caller] = longer[caller] = [*merged[caller], *group.events]
    yield from merged.items()


class Sorted(NamedTuple):
    """What a store took, what it or another one may take later, what none ever will, and what is refused by code.

    `overflow` may go another way to the index at once, `later` not.
    """

    stored: list[Part]
    overflow: list[Part]
    later: list[Part]
    poison: list[Poison]
    refused: dict[str, list[Part]]


def sort_out(parts: Sequence[Part], rejections: Mapping[int, Rejection]) -> Sorted:
    """Every event of `parts` in one place."""
    found = Sorted([], [], [], [], {})
    position = 0
    for caller, group in parts:
        good: list[LocationEvent] = []
        overflow: list[LocationEvent] = []
        later: list[LocationEvent] = []
        for event in group.events:
            rejection = rejections.get(position)
            position += 1
            if rejection is None:
                good.append(event)
            elif rejection.poison:
                found.poison.append((caller, DeviceEvents(group.account, group.device, (event,)), rejection))
            elif rejection.code:
                one = DeviceEvents(group.account, group.device, (event,))
                found.refused.setdefault(rejection.code, []).append((caller, one))
            elif rejection.overflow:
                overflow.append(event)
            else:
                later.append(event)
        if good:
            found.stored.append((caller, DeviceEvents(group.account, group.device, good)))
        if overflow:
            found.overflow.append((caller, DeviceEvents(group.account, group.device, overflow)))
        if later:
            found.later.append((caller, DeviceEvents(group.account, group.device, later)))
    return found
