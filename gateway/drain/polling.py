"""When to ask the load balancer again: the whole fleet shares one small budget. Pure; randomness is an argument.

All non-mutating ELBv2 calls of an account and a region take from one bucket of 40 tokens, refilled at 10 a second
(Elastic Load Balancing user guide, "API throttling"). The fleet stays near 2 calls a second, the rest is for others.
"""

from __future__ import annotations

from random import Random

from gateway.errors import CallErrorKind

CALLS_PER_S = 2.0
MIN_PERIOD_S = 5.0
MAX_PERIOD_S = 120.0
# What needs a person or a long outage to mend is asked for rarely: a fifth of the default deregistration delay.
SLOW_S = 60.0
_JITTER = 0.2
# The ECS API has buckets of its own; a fleet asks it once a second at most together, with what chance and answers of
# "slow down" add, and each task at least each four minutes.
DEPLOYMENT_CALLS_PER_S = 0.95
MIN_DEPLOYMENT_PERIOD_S = 30.0
MAX_DEPLOYMENT_PERIOD_S = 240.0


def period_s(tasks: int, groups: int) -> float:
    """Between two polls of one task, so that all tasks together make about 2 calls a second; without jitter."""
    return min(max(tasks * groups / CALLS_PER_S, MIN_PERIOD_S), MAX_PERIOD_S)


def deployment_period_s(tasks: int) -> float:
    """Between two questions of one task about the deployment of its service, without jitter: clamp(1.05 N, 30, 240)."""
    return min(max(tasks / DEPLOYMENT_CALLS_PER_S, MIN_DEPLOYMENT_PERIOD_S), MAX_DEPLOYMENT_PERIOD_S)


def pause_s(period_s: float, chance: Random) -> float:
    """The period with its jitter: tasks that started together must not ask together."""
    return period_s * chance.uniform(1 - _JITTER, 1 + _JITTER)


def retry_s(kind: CallErrorKind, period_s: float, failures: int, chance: Random) -> float:
    """After `failures` errors in a row. Throttled: full jitter over a growing span; what time does not mend: slowly.

    Throttled, the span ends at two periods, one on average: however many of its calls are throttled, a fleet whose size
    is known (the first answer tells it) stays below 1.15 times its budget, and asking less than that would only make it
    blind. Unreachable, the pause doubles: the service is asked again before twice the time of its silence has passed.
    """
    slow_s = max(period_s, SLOW_S)
    if kind is CallErrorKind.THROTTLED:
        return chance.uniform(0, period_s * (1 if failures == 1 else 2))
    if kind is CallErrorKind.UNREACHABLE:
        # Past 2^10 any period has grown beyond the slow one.
        return pause_s(min(period_s * 2 ** min(failures - 1, 10), slow_s), chance)
    if failures == 1 and kind is not CallErrorKind.DENIED:
        return pause_s(period_s, chance)
    return pause_s(slow_s, chance)
