"""How much of the loop's time each run takes while others wait, and which of them is a hog."""

from __future__ import annotations

# Of `hog_s`: a hog need not have most of the time, for what it does has to be stored as well.
_SPAN = 2.5


class LoopTime:
    """A run that takes `hog_s` of it within five times as long is a hog, and is called one for `hog_s` more."""

    def __init__(self, hog_s: float) -> None:
        self._hog_s = hog_s
        self._turned_s: float | None = None
        self._now: dict[str, float] = {}
        self._before: dict[str, float] = {}
        self._hog: str | None = None
        self._hog_until_s = 0.0
        self.hogs = 0

    def spent(self, run: str, took_s: float, now_s: float) -> bool:
        """A run took that much while others waited; whether that makes it a hog. `now_s` is a monotonic clock's."""
        span_s = _SPAN * self._hog_s
        if self._turned_s is None or now_s - self._turned_s >= span_s:
            late = self._turned_s is None or now_s - self._turned_s >= 2 * span_s
            self._before, self._now = {} if late else self._now, {}
            self._turned_s = now_s
        taken_s = self._now[run] = self._now.get(run, 0.0) + took_s
        if taken_s + self._before.get(run, 0.0) < self._hog_s:
            return False
        self._now[run] = 0.0
        self._before.pop(run, None)
        self.hogs += 1
        self._hog, self._hog_until_s = run, now_s + self._hog_s
        return True

    def hog(self, now_s: float) -> str | None:
        """The last one, for a while; None: there was none of late."""
        return self._hog if now_s < self._hog_until_s else None
