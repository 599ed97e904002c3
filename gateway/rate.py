"""Rates: the generic cell rate algorithm, and a token bucket; both pure, with the time as an argument.

GCRA (ITU-T I.371) needs one number a connection: the theoretical arrival time of the next message.
"""

from __future__ import annotations


def next_arrival(arrival_s: float, now_s: float, cost_s: float) -> float:
    """The theoretical arrival time after one more message that costs `cost_s` (1 / rate, or bytes / rate).

    The sender is above its rate by as much as the result lies ahead of `now_s` beyond the burst it is allowed.
    """
    # This is asked twice a message, and max() builds a tuple.
    return (arrival_s if arrival_s > now_s else now_s) + cost_s  # noqa: FURB136


class TokenBucket:
    """Admits `rate_per_s` on average and `burst` at once. Rate 0 admits everything."""

    __slots__ = ("_filled_s", "_tokens", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._tokens = burst
        self._filled_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one token if there is one."""
        if self.rate_per_s == 0:
            return True
        self._tokens = min(self.burst, self._tokens + max(0.0, now_s - self._filled_s) * self.rate_per_s)
        self._filled_s = max(self._filled_s, now_s)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
