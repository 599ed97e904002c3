"""The rates of a connection for those who send over HTTP: by device, not by connection. Pure.

A websocket is paused or closed when it is too fast. Over HTTP a peer may use as many connections as it likes, so the
device is counted, whichever connection it uses. Each event costs what a message costs.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from gateway.rate import next_arrival

_MAX_DEVICES = 65_536
# Sums of fractions of a second are the same when they differ by less.
_EQUAL_S = 1e-6
Key = tuple[str, str]


class HttpRates:
    """Rates by (account, device). A rate of 0 is no limit; `burst_bytes` is at least one whole body.

    Keeps the 65,536 devices that sent last.
    """

    def __init__(self, events_per_s: float, burst_events: float, bytes_per_s: float, burst_bytes: float) -> None:
        self._event_s = 1 / events_per_s if events_per_s else 0.0
        self._byte_s = 1 / bytes_per_s if bytes_per_s else 0.0
        self._event_burst_s = burst_events * self._event_s
        self._byte_burst_s = max(1.0, burst_bytes * self._byte_s)
        # The theoretical arrival times of the next event and the next byte, in the order of their last use.
        self._arrivals: OrderedDict[Key, tuple[float, float]] = OrderedDict()
        self.limited = 0

    def wait_s(self, key: Key, now_s: float) -> int:
        """0: it may send now; else whole seconds to wait, for a Retry-After header. Counts those that wait."""
        events_s, bytes_s = self._arrivals.get(key, (now_s, now_s))
        ahead_s = max(events_s - now_s - self._event_burst_s, bytes_s - now_s - self._byte_burst_s)
        if ahead_s <= _EQUAL_S:
            return 0
        self.limited += 1
        return math.ceil(ahead_s - _EQUAL_S)

    def spend(self, key: Key, now_s: float, events: int, size_bytes: int) -> None:
        """It has sent so much. Whoever may send at all may send a whole body, and waits the longer afterwards."""
        events_s, bytes_s = self._arrivals.pop(key, (now_s, now_s))
        self._arrivals[key] = (
            next_arrival(events_s, now_s, events * self._event_s),
            next_arrival(bytes_s, now_s, size_bytes * self._byte_s),
        )
        if len(self._arrivals) > _MAX_DEVICES:
            self._arrivals.popitem(last=False)
