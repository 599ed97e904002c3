"""The unit of work of location ingest: the events one device sent in one message, and batches of those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from gateway.locations.event import MAX_ATTRIBUTES_BYTES, LocationEvent

# An upper bound of an encoded event without attributes: ten fields, a 64 byte id, numbers of at most 24 digits.
EVENT_BYTES = 320
# What an attribute takes in memory besides its text: the objects of name and value, and a place in a dict.
ATTRIBUTE_BYTES = 128


class DeviceEvents(Struct, frozen=True, gc=False):
    """Events of one device. `(account, device, event.id)` identifies an event: the first copy wins."""

    account: str
    device: str
    events: Sequence[LocationEvent]


def size_bytes(events: Sequence[LocationEvent]) -> int:
    """An upper bound of what `events` take when encoded, and about what they take as objects; nothing is encoded."""
    size = EVENT_BYTES * len(events)
    for event in events:
        if event.attributes is not None:
            size += MAX_ATTRIBUTES_BYTES + ATTRIBUTE_BYTES * len(event.attributes)
    return size


def count(groups: Iterable[DeviceEvents]) -> int:
    """How many events the groups hold."""
    return sum(len(group.events) for group in groups)


def items(groups: Iterable[DeviceEvents]) -> Iterator[tuple[DeviceEvents, LocationEvent]]:
    """Every event with its group, in the order that numbers them in `LocationIndex.write`."""
    for group in groups:
        for event in group.events:
            yield group, event
