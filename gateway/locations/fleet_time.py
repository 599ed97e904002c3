"""What the times of devices' events say of our own clock: one device may be wrong, most accounts are not.

An account's say is the median over the devices that were heard last, the fleet's the median over accounts. One account
never decides about others. Where there are too few for a fleet, one with several devices decides about its own.
"""

from __future__ import annotations

from statistics import median_low

MAX_DEVICES = 9
MIN_DEVICES = 3
MIN_ACCOUNTS = 3
MAX_ACCOUNTS = 256
FORGET_S = 3600.0


class _Account:
    __slots__ = ("apart_ms", "seen_s")

    def __init__(self) -> None:
        # By device, the one heard last at the end. Event time minus monotonic clock: a step of the wall clock does not
        # make old readings wrong.
        self.apart_ms: dict[str, float] = {}
        self.seen_s = 0.0

    def says_ms(self) -> float:
        return median_low(self.apart_ms.values())


class FleetTime:
    """Readings of at most `MAX_ACCOUNTS` accounts, each as long as it is fresh.

    `joined` grows with each reading that may give a device a say that had none.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._made_room_s = float("-inf")
        self.joined = 0

    def seen(self, account: str, device: str, event_ms: int, now_s: float) -> None:
        """A message of this device came, its newest event of this time."""
        found = self._accounts.get(account)
        if found is None:
            if len(self._accounts) >= MAX_ACCOUNTS and not self._make_room(now_s):
                return
            found = self._accounts[account] = _Account()
        if found.apart_ms.pop(device, None) is None and len(found.apart_ms) < MIN_DEVICES:
            self.joined += 1
        if len(found.apart_ms) >= MAX_DEVICES:
            del found.apart_ms[next(iter(found.apart_ms))]
        found.apart_ms[device] = event_ms - now_s * 1000
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
        fresh = self._fresh(now_s)
        if len(fresh) < MIN_ACCOUNTS:
            return None
        return _offset_ms(median_low(found.says_ms() for found in fresh.values()), now_ms, now_s)

    def own_offsets_ms(self, now_ms: int, now_s: float) -> dict[str, int]:
        """The same for each account alone that has enough devices, where there are too few accounts for a fleet."""
        fresh = self._fresh(now_s)
        if len(fresh) >= MIN_ACCOUNTS:
            return {}
        return {
            account: _offset_ms(found.says_ms(), now_ms, now_s)
            for account, found in fresh.items()
            if len(found.apart_ms) >= MIN_DEVICES
        }

    def _fresh(self, now_s: float) -> dict[str, _Account]:
        return {account: found for account, found in self._accounts.items() if now_s - found.seen_s <= FORGET_S}


def _offset_ms(apart_ms: float, now_ms: int, now_s: float) -> int:
    return round(apart_ms - (now_ms - now_s * 1000))
