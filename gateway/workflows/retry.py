"""When a failed attempt is followed by another one."""

from __future__ import annotations

import math

from gateway.workflows.spec import Retry


def wait_s(retry: Retry, used: int) -> float | None:
    """How long to wait after `used` attempts, the last of which failed; None: that was the last one."""
    if used >= retry.max_attempts:
        return None
    # The power leaves what a float can hold long before the wait gets there.
    if retry.wait_s == 0 or (used - 1) * math.log(retry.backoff) > math.log(max(1.0, retry.max_wait_s / retry.wait_s)):
        return retry.max_wait_s if retry.wait_s else 0.0
    return float(min(retry.max_wait_s, retry.wait_s * retry.backoff ** (used - 1)))
