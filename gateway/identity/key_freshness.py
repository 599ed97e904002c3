"""When the key set is read again, and how long an old one counts. Pure; times are monotonic seconds."""

from __future__ import annotations

REFRESH_S = 300.0
# However many tokens name keys that are not known: anybody can make one up.
UNKNOWN_KEY_S = 60.0
_RETRY_S = 5.0
_MAX_RETRY_S = 60.0


class Freshness:
    """`fetched_s`: when the set that counts was read; None: there is none. `share` is 0 to 1, drawn for each pause, so
    that processes that started together do not ask together."""

    def __init__(self, max_stale_s: float, now_s: float) -> None:
        self._max_stale_s = max_stale_s
        self.fetched_s: float | None = None
        self._asked_s = now_s - UNKNOWN_KEY_S
        self._failures = 0
        self.due_s = now_s

    def stored(self, now_s: float, age_s: float) -> bool:
        """A set that was read `age_s` ago by an earlier process; False: it is too old to count."""
        if age_s > self._max_stale_s:
            return False
        self.fetched_s = now_s - max(0.0, age_s)
        return True

    def asked(self, now_s: float) -> None:
        """The endpoint is being asked."""
        self._asked_s = now_s

    def succeeded(self, now_s: float, share: float) -> None:
        """It gave a set."""
        self.fetched_s, self._failures = now_s, 0
        self.due_s = now_s + REFRESH_S * (0.8 + 0.4 * share)

    def failed(self, now_s: float, share: float) -> None:
        """It did not."""
        pause_s = min(_MAX_RETRY_S, _RETRY_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self.due_s = now_s + pause_s * (0.5 + 0.5 * share)

    def unknown_key(self, now_s: float) -> None:
        """A token names a key that is not in the set: look soon, at most once a minute."""
        self.due_s = min(self.due_s, max(now_s, self._asked_s + UNKNOWN_KEY_S))

    def counts(self, now_s: float) -> bool:
        """Whether there is a set that is young enough."""
        return self.fetched_s is not None and now_s - self.fetched_s <= self._max_stale_s
