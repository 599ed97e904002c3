"""Who may come in: decided at accept, before any cryptography; by account and device once the token is known."""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass

from gateway.connections.rate import TokenBucket

# How long a refused client is told to stay away: long enough to let a burst pass, spread so that the refused do not
# come back as one.
RETRY_AFTER_S = (2.0, 20.0)
_FLAP_WINDOW_S = 60.0
_MAX_FLAPPING = 65_536


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a handshake is refused: HTTP status, a short name for metrics, a sentence for the client."""

    status: int
    reason: str
    detail: str


DRAINING = Refusal(503, "draining", "this server is leaving; connect again to reach another one")
AT_MAXIMUM = Refusal(503, "connections", "the server holds as many connections as it may")
TOO_MANY_PENDING = Refusal(503, "pending", "too many handshakes at once")
TOO_FAST = Refusal(503, "handshakes", "more handshakes a second than the server takes")
OUT_OF_MEMORY = Refusal(503, "memory", "the server's memory is nearly used up")
ACCOUNT_AT_MAXIMUM = Refusal(429, "account", "the account holds as many connections as it may")
FLAPPING = Refusal(429, "flapping", "this device connects too often; it is held off for a while")
DUPLICATE = Refusal(409, "duplicate", "this device is connected already")


@dataclass(slots=True)
class Admission:
    """The state of the whole process that decides about a new connection.

    `open` counts connections from accept to end, `pending` those whose handshake is not finished.
    """

    maximum: int
    max_pending: int
    handshakes: TokenBucket
    open: int = 0
    pending: int = 0
    draining: bool = False
    memory_low: bool = False

    def at_accept(self, now_s: float) -> Refusal | None:
        """None: come in. The connection itself is counted already."""
        if self.draining:
            return DRAINING
        if self.open > self.maximum:
            return AT_MAXIMUM
        if self.memory_low:
            return OUT_OF_MEMORY
        if self.pending > self.max_pending:
            return TOO_MANY_PENDING
        if not self.handshakes.take(now_s):
            return TOO_FAST
        return None


def retry_after_s(chance: random.Random, least_s: float = 0.0) -> int:
    """Whole seconds for a Retry-After header (RFC 9110, 10.2.3), jittered, on top of `least_s`."""
    return round(least_s + chance.uniform(*RETRY_AFTER_S))


class FlapGuard:
    """Holds off a device that connects more than `limit` times a minute. Limit 0 never does.

    Keeps one entry a device that connected within the last minute, the oldest dropped above 65,536.
    """

    def __init__(self, limit: int, holdoff_s: float) -> None:
        self._limit = limit
        self._holdoff_s = holdoff_s
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def admit(self, account: str, device: str, now_s: float) -> float:
        """Count one connect; 0: come in, else the seconds it has to stay away."""
        if self._limit == 0:
            return 0.0
        key = (account, device)
        since_s, count = self._seen.pop(key, (now_s, 0))
        self._forget(now_s)
        if count > self._limit:  # held off: `since_s` is when that ends
            if now_s < since_s:
                self._seen[key] = (since_s, count)
                return since_s - now_s
            since_s, count = now_s, 0
        elif now_s - since_s > _FLAP_WINDOW_S:
            since_s, count = now_s, 0
        count += 1
        if count > self._limit:
            self._seen[key] = (now_s + self._holdoff_s, count)
            return self._holdoff_s
        self._seen[key] = (since_s, count)
        return 0.0

    def _forget(self, now_s: float) -> None:
        seen = self._seen
        while seen:
            since_s, _ = next(iter(seen.values()))
            if len(seen) < _MAX_FLAPPING and now_s - since_s <= _FLAP_WINDOW_S:
                return
            seen.popitem(last=False)
