"""The Attempts port in this process: what a gateway alone needs."""

from __future__ import annotations

from collections import OrderedDict

from gateway.channels.ports import Claim, Claimed
from gateway.clock import Clock
from gateway.errors import BrokerDownError

MAX_KEPT = 100_000


class MemoryAttempts:
    """At most `maximum` at a time: above that no key is taken."""

    def __init__(self, clock: Clock, maximum: int = MAX_KEPT) -> None:
        self._clock = clock
        self._maximum = maximum
        # Until when it is kept, what was asked, and what it led to (None: it is under way).
        self._kept: OrderedDict[str, tuple[float, bytes, bytes | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    async def claim(self, key: str, request: bytes, ttl_ms: int) -> Claim:
        now_s = self._clock.monotonic_s()
        self._forget(now_s)
        if (found := self._kept.get(key)) is not None and found[0] > now_s:
            _, asked, answer = found
            if asked != request:
                return Claim(Claimed.OTHER)
            return Claim(Claimed.RUNNING) if answer is None else Claim(Claimed.DONE, answer)
        if len(self._kept) >= self._maximum:
            raise BrokerDownError(f"{self._maximum} idempotency keys are kept, which is as many as may be")
        self._keep(key, (now_s + ttl_ms / 1000, request, None))
        return Claim(Claimed.NEW)

    async def settle(self, key: str, request: bytes, answer: bytes, ttl_ms: int) -> None:
        self._keep(key, (self._clock.monotonic_s() + ttl_ms / 1000, request, answer))

    async def release(self, key: str) -> None:
        self._kept.pop(key, None)

    def _keep(self, key: str, kept: tuple[float, bytes, bytes | None]) -> None:
        self._kept[key] = kept
        self._kept.move_to_end(key)

    def _forget(self, now_s: float) -> None:
        """Drop what is over, from the oldest on; a long one may hide a few behind it, for a minute."""
        while self._kept and next(iter(self._kept.values()))[0] <= now_s:
            self._kept.popitem(last=False)
