"""Where frames leave for subscribers, and where their subscriptions end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from gateway.channels.fanout_ports import Neighbours, Subscriber, Writing
from gateway.channels.refusal import Refusal
from gateway.channels.subscribers import Subscribers, Subscriptions
from gateway.wire.frames import text_frame

# The smallest frame that a class of devices may be limited to (`max_frame_bytes`), less its header.
FITS_ALL_BYTES = 996
# How long a store may take to tell what a channel holds.
READ_TIMEOUT_S = 5.0
# The same words for what is not there and for what is another account's.
NOT_FOUND = "there is no such channel"


class Outlet:
    """Shared by what feeds the channels. `holders` is who has which slot.

    `delivered` and `lagged` count by the kind of the channel, `refused` by code.
    """

    def __init__(self, holders: Sequence[Any], writing: Writing, neighbours: Neighbours) -> None:
        self._holders = holders
        self.writing = writing
        self.neighbours = neighbours
        self.subscriptions = Subscriptions()
        self.delivered: Counter[str] = Counter()
        self.lagged: Counter[str] = Counter()
        self.refused: Counter[Refusal] = Counter()

    def subscriber(self, slot: int) -> Subscriber:
        """Whoever subscribed with this slot: its subscriptions end before the slot is another one's."""
        return cast(Subscriber, self._holders[slot])

    def push(self, subscribers: Subscribers, slots: Iterable[int], events: Sequence[bytes], kind: str) -> list[int]:
        """Send all these messages to all slots, in one piece; returns those who take nothing now, and got nothing."""
        holders, lagging, reached = self._holders, [], 0
        for group, data in self._pieces(subscribers, slots, events):
            for slot in group:
                try:
                    taken = holders[slot].push(data)
                except Exception as error:
                    # It ends, and the others get theirs.
                    holders[slot].failed(error)
                    continue
                if taken:
                    reached += 1
                else:
                    lagging.append(slot)
        self.delivered[kind] += reached * len(events)
        self.lagged[kind] += len(lagging)
        return lagging

    def _pieces(
        self, subscribers: Subscribers, slots: Iterable[int], events: Sequence[bytes]
    ) -> Iterator[tuple[Iterable[int], bytes]]:
        """What goes to whom: one piece for all, unless an event is larger than some can read."""
        if max(map(len, events)) <= FITS_ALL_BYTES:
            yield slots, b"".join(map(text_frame, events))
            return
        by_limit: dict[int, list[int]] = {}
        for slot in slots:
            by_limit.setdefault(self.subscriber(slot).max_payload_bytes, []).append(slot)
        for limit, group in by_limit.items():
            fitting = [event if len(event) <= limit else self._too_large(subscribers, event, limit) for event in events]
            yield group, b"".join(map(text_frame, fitting))

    def _too_large(self, subscribers: Subscribers, event: bytes, limit: int) -> bytes:
        """Never silence: what is told instead of an event."""
        self.refused[Refusal.TOO_LARGE] += 1
        said = f"an event of {len(event)} bytes was left out: this client's class takes {limit}"
        return self.writing.refused(subscribers.channel.name, Refusal.TOO_LARGE, said)

    def tell(self, slot: int, message: bytes) -> None:
        """What has to reach it in any case: a connection that takes too little for that ends (4503)."""
        self.subscriber(slot).send(message)

    def refuse(self, subscribers: Subscribers, slot: int, refusal: Refusal, message: str) -> None:
        """There will be no events (any more): say so, and end the subscription."""
        self.refused[refusal] += 1
        self.tell(slot, self.writing.refused(subscribers.channel.name, refusal, message))
        self.end(subscribers, slot)

    def end(self, subscribers: Subscribers, slot: int) -> None:
        """It is subscribed no more."""
        if self.subscriptions.close(slot, subscribers):
            self.neighbours.unwanted(subscribers.channel)
