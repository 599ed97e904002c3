"""What the times of devices' events say of our own clock: one device may be wrong, most accounts are not.

An account's say is the median of its last readings, the fleet's the median over accounts. One account never decides.
"""

from __future__ import annotations

from collections import deque
from statistics import median_low

READINGS = 9
MIN_ACCOUNTS = 3
MAX_ACCOUNTS = 256
FORGET_S = 3600.0


class _Account:
    __slots__ = ("apart_ms", "seen_s")

    def __init__(self) -> None:
        # Event time minus monotonic clock: a step of the wall clock does not make old readings wrong.
        self.apart_ms: deque[float] = deque(maxlen=READINGS)
        self.seen_s = 0.0


class FleetTime:
    """Readings of at most `MAX_ACCOUNTS` accounts, each as long as it is fresh."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._made_room_s = float("-inf")

    def __len__(self) -> int:
        """How many accounts have a say."""
        return len(self._accounts)

    def seen(self, account: str, event_ms: int, now_s: float) -> None:
        """A message of this account came, its newest event of this time."""
        found = self._accounts.get(account)
        if found is None:
            if len(self._accounts) >= MAX_ACCOUNTS and not self._make_room(now_s):
                return
            found = self._accounts[account] = _Account()
        found.apart_ms.append(event_ms - now_s * 1000)
        found.seen_s = now_s

    def _make_room(self, now_s: float) -> bool:
        """Forget the account that was silent longest; at most once a second, for it means looking at all of them."""
        if now_s - self._made_room_s < 1.0:
            return False
        self._made_room_s = now_s
        del self._accounts[min(self._accounts, key=lambda name: self._accounts[name].seen_s)]
        return True

    def offset_ms(self, now_ms: int, now_s: float) -> int | None:
        """How far events are from the wall clock, positive when it is behind them; None: too few accounts say."""
        fresh = [found for found in self._accounts.values() if now_s - found.seen_s <= FORGET_S]
        if len(fresh) < MIN_ACCOUNTS:
            return None
        apart_ms = median_low(median_low(found.apart_ms) for found in fresh)
        return round(apart_ms - (now_ms - now_s * 1000))
