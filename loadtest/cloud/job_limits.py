"""What the stand-ins of AWS Batch and of tasks of Amazon ECS share: errors, and limits on calls."""

from __future__ import annotations

from collections.abc import Callable


class JobsError(Exception):
    """An answer that is an error: `code` and `status` (HTTP) as AWS sends them."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Buckets:
    """A token bucket an operation, with a second's worth in it."""

    def __init__(self, now_s: Callable[[], float], rate_per_s: float, code: str, status: int) -> None:
        self.rate_per_s = rate_per_s
        self.throttled = 0
        self._now_s = now_s
        self._code = code
        self._status = status
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, operation: str) -> None:
        """Raises JobsError when there were too many calls."""
        if not self.rate_per_s:
            return
        now_s = self._now_s()
        left, seen_s = self._left.get(operation, (self.rate_per_s, now_s))
        left = min(max(1.0, self.rate_per_s), left + (now_s - seen_s) * self.rate_per_s)
        enough = left >= 1
        self._left[operation] = (left - 1 if enough else left, now_s)
        if not enough:
            self.throttled += 1
            raise JobsError(self._code, "Rate exceeded", self._status)
