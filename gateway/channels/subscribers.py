"""Who is subscribed to what, and how far each has come. Pure: fanout.py and the readers do what is said here.

A subscriber is opening (its `subscribed` is still to be sent), live (it gets each event as it comes), or behind: of a
latest channel it was too slow and is owed the newest state, of a log it is owed what lies after its own offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import Struct, field

from gateway.channels.channel import Channel
from gateway.channels.slots import Slots

# Most channels have one subscriber, which is live: what is empty there is this, and takes no memory.
_NOBODY: Mapping[int, Any] = MappingProxyType({})


class Subscribers(Struct, eq=False, gc=False):
    """Those of one channel. `opening`: by slot, the offset to go on after; None: with a snapshot."""

    channel: Channel
    opening: Mapping[int, int | None] = _NOBODY
    live: Slots = field(default_factory=Slots)

    def __len__(self) -> int:
        return len(self.opening) + len(self.live)

    def begin(self, slot: int, after: int | None) -> None:
        """It is opening."""
        self.opening = _with(self.opening, slot, after)

    def forget(self, slot: int) -> None:
        """It is subscribed no more."""
        self.opening = _without(self.opening, slot)
        self.live.discard(slot)


class LatestSubscribers(Subscribers):
    """`state`: the newest, as far as it is known; None: nothing is. `event`: the message that tells it, once made.
    `read`: the state was read since the first of them came, so that it is whole."""

    state: Any = None
    event: bytes | None = None
    read: bool = False
    behind: Mapping[int, None] = _NOBODY

    def __len__(self) -> int:
        return super().__len__() + len(self.behind)

    def forget(self, slot: int) -> None:
        super().forget(slot)
        self.behind = _without(self.behind, slot)

    def opened(self) -> list[int]:
        """All that are opening get a snapshot, and are live."""
        slots = list(self.opening)
        self.opening = _NOBODY
        for slot in slots:
            self.live.add(slot)
        return slots

    def lag(self, slot: int) -> None:
        """It did not take the newest event."""
        self.live.discard(slot)
        self.behind = _with(self.behind, slot, None)

    def catch_up(self, slot: int) -> bool:
        """It takes events again; whether it is owed the newest."""
        if slot not in self.behind:
            return False
        self.behind = _without(self.behind, slot)
        self.live.add(slot)
        return True


class Delivery(NamedTuple):
    """Send the events of a page from number `first` on to these slots, which have got what there is up to `offset`."""

    slots: Sequence[int]
    first: int
    offset: int


class LogSubscribers(Subscribers):
    """`head`: the offset that all who are live have got. `behind`: by slot, the offset each other one has got.
    `stalled`: those of them that take nothing for now. `due`: there may be something to read.

    Whoever reads does so for one offset at a time: all who are there, or further within the page, get their part.
    """

    head: int = 0
    behind: Mapping[int, int] = _NOBODY
    stalled: Mapping[int, None] = _NOBODY
    due: bool = False

    def __len__(self) -> int:
        return super().__len__() + len(self.behind)

    def forget(self, slot: int) -> None:
        super().forget(slot)
        self.behind = _without(self.behind, slot)
        self.stalled = _without(self.stalled, slot)

    def place(self, slot: int, offset: int) -> None:
        """It was told that it goes on after `offset`."""
        self.opening = _without(self.opening, slot)
        self.live.discard(slot)
        self.behind = _with(self.behind, slot, offset)
        self.due = True

    def offsets(self) -> list[int]:
        """After which to read: those who are live first, then whoever has the longest way to go."""
        found = [self.head] if self.live else []
        waiting = [offset for slot, offset in self.behind.items() if slot not in self.stalled]
        lowest = min(waiting, default=None)
        if lowest is not None and lowest not in found:
            found.append(lowest)
        return found

    def at(self, offset: int) -> list[int]:
        """Those who have got exactly what there is up to `offset`, and take more."""
        waiting = [slot for slot, own in self.behind.items() if own == offset and slot not in self.stalled]
        return [*self.live, *waiting] if self.live and self.head == offset else waiting

    def deliver(self, after: int, offsets: Sequence[int]) -> list[Delivery]:
        """The events with these offsets were read after `after`. Who gets which?"""
        last = offsets[-1] if offsets else after
        deliveries = []
        if self.live and self.head == after and offsets:
            deliveries.append(Delivery(list(self.live), 0, after))
            self.head = last
        parts: dict[int, list[int]] = {}
        for slot, own in self.behind.items():
            if slot not in self.stalled and after <= own < last:
                parts.setdefault(own, []).append(slot)
        for own, slots in parts.items():
            first = next(number for number, offset in enumerate(offsets) if offset > own)
            deliveries.append(Delivery(slots, first, own))
            for slot in slots:
                self.behind = _with(self.behind, slot, last)
        self._join(last)
        return deliveries

    def _join(self, last: int) -> None:
        """Whoever has got what the live ones have is live; where nobody is, those who have got what was read."""
        if not self.live:
            self.head = last
        for slot in [slot for slot, own in self.behind.items() if own == self.head and slot not in self.stalled]:
            self.behind = _without(self.behind, slot)
            self.live.add(slot)

    def lag(self, slot: int, offset: int) -> None:
        """It takes nothing for now, and has got everything up to `offset`."""
        self.live.discard(slot)
        self.behind = _with(self.behind, slot, offset)
        self.stalled = _with(self.stalled, slot, None)

    def catch_up(self, slot: int) -> bool:
        """It takes events again; whether it was one of those who did not."""
        if slot not in self.stalled:
            return False
        self.stalled = _without(self.stalled, slot)
        self.due = True
        return True

    def hear(self, newest: int) -> None:
        """The log's newest offset: is there anything to read?"""
        self.due = self.due or any(offset != newest for offset in self.offsets())


class Subscriptions:
    """All channels that have local subscribers, and all subscriptions of each slot."""

    def __init__(self) -> None:
        self._channels: dict[Channel, Subscribers] = {}
        # A tuple, or what would be its only part, since most have one.
        self._slots: dict[int, Subscribers | tuple[Subscribers, ...]] = {}

    def __len__(self) -> int:
        return sum(len(own) if isinstance(own, tuple) else 1 for own in self._slots.values())

    def __iter__(self) -> Iterator[Subscribers]:
        return iter(self._channels.values())

    @property
    def channels(self) -> int:
        """How many channels have subscribers."""
        return len(self._channels)

    def find(self, channel: Channel) -> Subscribers | None:
        """Those of a channel; None: there are none."""
        return self._channels.get(channel)

    def of(self, slot: int) -> tuple[Subscribers, ...]:
        """All that this slot is among."""
        own = self._slots.get(slot, ())
        return own if isinstance(own, tuple) else (own,)

    def open(self, slot: int, fresh: Subscribers, after: int | None) -> Subscribers:
        """It subscribes to the channel of `fresh`, which is taken where there are no subscribers yet.

        A subscription it has there already begins anew.
        """
        subscribers = self._channels.setdefault(fresh.channel, fresh)
        own = self.of(slot)
        if subscribers in own:
            subscribers.forget(slot)
        else:
            self._slots[slot] = (*own, subscribers) if own else subscribers
        subscribers.begin(slot, after)
        return subscribers

    def close(self, slot: int, subscribers: Subscribers) -> bool:
        """It is among them no more; whether it was the last one."""
        subscribers.forget(slot)
        rest = tuple(other for other in self.of(slot) if other is not subscribers)
        if rest:
            self._slots[slot] = rest[0] if len(rest) == 1 else rest
        else:
            self._slots.pop(slot, None)
        last = len(subscribers) == 0
        if last:
            self._channels.pop(subscribers.channel, None)
        return last


def _with(some: Mapping[int, Any], slot: int, value: Any) -> Mapping[int, Any]:
    """The same with one more; in place, where there are some."""
    if not isinstance(some, dict):
        return {slot: value}
    some[slot] = value
    return some


def _without(some: Mapping[int, Any], slot: int) -> Mapping[int, Any]:
    """The same without that one; in place."""
    if isinstance(some, dict):
        some.pop(slot, None)
    return some or _NOBODY
