"""Who may come in: decided at accept, before any cryptography; by account and device once the token is known."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from gateway.rate import TokenBucket
from gateway.settings.model import Connections
from gateway.wire.refusal import Refusal

# How long a refused client is told to stay away: long enough to let a burst pass, spread so that the refused do not
# come back as one.
RETRY_AFTER_S = (2.0, 20.0)
_FLAP_WINDOW_S = 60.0
_MAX_FLAPPING = 65_536
_HELD_OFF = -1


DRAINING = Refusal(503, "draining", "this server is leaving; connect again to reach another one")
AT_MAXIMUM = Refusal(503, "connections", "the server holds as many connections as it may")
TOO_MANY_PENDING = Refusal(503, "pending", "too many handshakes at once")
TOO_FAST = Refusal(503, "handshakes", "more handshakes a second than the server takes")
OUT_OF_MEMORY = Refusal(503, "memory", "the server's memory is nearly used up")
HTTP_AT_MAXIMUM = Refusal(503, "http", "the server holds as many HTTP connections as it may")
ACCOUNT_AT_MAXIMUM = Refusal(429, "account", "the account holds as many connections as it may")
FLAPPING = Refusal(
    429, "flapping", "this device connects too often, or sends what is not understood; it is held off for a while"
)
DUPLICATE = Refusal(409, "duplicate", "this device is connected already")

# Nothing is left for these but the answer to a health check.
SHORT_OF_ROOM = (AT_MAXIMUM, OUT_OF_MEMORY, TOO_MANY_PENDING)
# A refused client that comes again at once is answered only after a while: many clients know no other pause.
HOLD_S = (1.0, 3.0)
_REPEAT_WITHIN_S = 10.0
_MAX_REFUSED = 16_384


def retry_after_s(chance: random.Random, minimum_s: float = 0.0) -> int:
    """Whole seconds for a Retry-After header (RFC 9110, 10.2.3), jittered, on top of `minimum_s`."""
    return round(minimum_s + chance.uniform(*RETRY_AFTER_S))


class Repeats:
    """Recognises peers that are refused again and again. Keeps one entry a name, and drops the oldest above 16,384."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Hashable, float] = OrderedDict()

    def again(self, name: Hashable, now_s: float) -> bool:
        """Count a refusal; whether the same name was refused within the last ten seconds."""
        last_s = self._seen.pop(name, None)
        self._seen[name] = now_s
        if len(self._seen) > _MAX_REFUSED:
            self._seen.popitem(last=False)
        return last_s is not None and now_s - last_s <= _REPEAT_WITHIN_S


class FlapGuard:
    """Holds off a device that connects more than `limit` times a minute, and any that `hold_off` names. Limit 0: only
    those.

    Keeps one entry a device that connected within the last minute, the oldest dropped above 65,536.
    """

    def __init__(self, limit: int, holdoff_s: float) -> None:
        self._limit = limit
        self._holdoff_s = holdoff_s
        # Since when, and how many connects; or until when, and that it is held off.
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def hold_off(self, account: str, device: str, now_s: float) -> None:
        """Let this device stay away for as long as one that flaps."""
        key = (account, device)
        self._seen.pop(key, None)
        self._forget(now_s)
        self._seen[key] = (now_s + self._holdoff_s, _HELD_OFF)

    def admit(self, account: str, device: str, now_s: float) -> float:
        """Count one connect; 0: come in, else the seconds it has to stay away."""
        key = (account, device)
        since_s, count = self._seen.pop(key, (now_s, 0))
        self._forget(now_s)
        if count == _HELD_OFF:
            if now_s < since_s:
                self._seen[key] = (since_s, count)
                return since_s - now_s
            since_s, count = now_s, 0
        elif now_s - since_s > _FLAP_WINDOW_S:
            since_s, count = now_s, 0
        if self._limit == 0:
            return 0.0
        count += 1
        if count > self._limit:
            self._seen[key] = (now_s + self._holdoff_s, _HELD_OFF)
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


@dataclass(slots=True)
class Admission:
    """The state of the whole process that decides about a new connection.

    `open` counts connections from accept to end, `pending` those whose handshake is not finished, `http` those that
    asked for something else than a websocket: these have `http_maximum` places of their own. `held` counts those whose
    refusal waits; `ending`: nothing may wait any more.
    """

    maximum: int
    max_pending: int
    handshakes: TokenBucket
    flaps: FlapGuard
    repeats: Repeats = field(default_factory=Repeats)
    open: int = 0
    pending: int = 0
    http: int = 0
    http_maximum: int = 0
    held: int = 0
    ending: bool = False
    draining: bool = False
    memory_low: bool = False

    def at_accept(self, now_s: float) -> Refusal | None:
        """None: come in. The connection itself is counted already."""
        if self.draining:
            return DRAINING
        if self.open - self.http > self.maximum:
            return AT_MAXIMUM
        if self.memory_low:
            return OUT_OF_MEMORY
        if self.pending > self.max_pending:
            return TOO_MANY_PENDING
        if not self.handshakes.take(now_s):
            return TOO_FAST
        return None

    def has_reserve(self, file_reserve: int) -> bool:
        """Whether a connection above the maximum can still be answered: half of the reserve is for that."""
        return self.open <= self.maximum + self.http_maximum + file_reserve // 2

    def may_hold(self) -> bool:
        """Whether one more refusal may wait: never with a file of the reserve, and not for many."""
        return not self.ending and self.open - self.http <= self.maximum and self.held < self.max_pending // 8


def admission(limits: Connections, maximum: int, http_maximum: int, now_s: float) -> Admission:
    """A process without connections. `maximum` and `http_maximum` are what the limit of open files leaves."""
    return Admission(
        maximum,
        limits.handshakes_pending,
        TokenBucket(limits.handshakes_per_s, max(1.0, limits.handshakes_per_s), now_s),
        FlapGuard(limits.flap_limit, limits.flap_holdoff_s),
        http_maximum=http_maximum,
    )
