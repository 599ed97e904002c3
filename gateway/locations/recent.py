"""Read your own writes: what the index took in the last seconds and does not show in searches yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from gateway.locations.batch import DeviceEvents
from gateway.locations.query import Found, Query

MAX_EVENTS = 50_000


class Recent:
    """Events by account, each for `keep_s`; of more than `MAX_EVENTS` the oldest are left to the index alone."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._order: deque[tuple[float, DeviceEvents]] = deque()
        self._accounts: dict[str, deque[DeviceEvents]] = {}
        self.events = 0

    def add(self, groups: Sequence[DeviceEvents], now_s: float) -> None:
        """The index took these."""
        for group in groups:
            self._order.append((now_s, group))
            self._accounts.setdefault(group.account, deque()).append(group)
            self.events += len(group.events)
        self._forget(now_s)

    def matching(self, account: str, query: Query, now_s: float) -> list[Found]:
        """What a query finds among them, in no order; the cursor is left to the caller."""
        self._forget(now_s)
        return list(self._matching(account, query))

    def _matching(self, account: str, query: Query) -> Iterator[Found]:
        for group in self._accounts.get(account, ()):
            if query.device is not None and group.device != query.device:
                continue
            for event in group.events:
                if query.from_ms is not None and event.time < query.from_ms:
                    continue
                if query.to_ms is not None and event.time >= query.to_ms:
                    continue
                if query.shape is not None and not query.shape.contains(event.lat, event.lon):
                    continue
                yield Found(
                    group.device,
                    event.id,
                    event.time,
                    event.lat,
                    event.lon,
                    event.accuracy,
                    event.altitude,
                    event.speed,
                    event.heading,
                    event.attributes,
                )

    def _forget(self, now_s: float) -> None:
        order = self._order
        while order and (now_s - order[0][0] > self._keep_s or self.events > MAX_EVENTS):
            _, group = order.popleft()
            self.events -= len(group.events)
            groups = self._accounts[group.account]
            # Both are in the order of arrival.
            groups.popleft()
            if not groups:
                del self._accounts[group.account]
