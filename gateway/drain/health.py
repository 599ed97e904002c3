"""What a load balancer says of a target group, in ELB's own words.

Elastic Load Balancing API reference, DescribeTargetHealth and TargetHealth; states as of version 2015-12-01.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field


class TargetState(StrEnum):
    """`TargetHealth.State`. A target that is not registered has none."""

    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    # A Network Load Balancer's: an unhealthy target keeps its connections for a while. It is not deregistered.
    UNHEALTHY_DRAINING = "unhealthy.draining"
    UNUSED = "unused"
    DRAINING = "draining"
    UNAVAILABLE = "unavailable"


class PollErrorKind(StrEnum):
    """Why the load balancer could not be asked; the label `class` of `heiwa_drain_poll_errors_total`."""

    THROTTLED = "throttled"
    DENIED = "denied"
    EXPIRED = "expired"
    UNREACHABLE = "unreachable"
    NOT_FOUND = "not_found"
    OTHER = "other"


class GroupHealth(Struct, frozen=True):
    """One poll of one target group.

    `own` is None when this process's target is not registered. `targets` are all that the group lists, by `id:port`.
    """

    own: TargetState | None
    targets: Mapping[str, TargetState] = field(default_factory=dict)


class GroupAttributes(Struct, frozen=True):
    """`network`: a Network Load Balancer's group. `termination`: it cuts connections when the delay ends."""

    delay_s: float = 300.0
    network: bool = False
    termination: bool = False


class Membership(Struct, frozen=True):
    """Where this process stands: `target` is an IP address or an instance id, `ports` by target group ARN.

    `stop_timeout_s` is the task definition's; None: it says nothing, or could not be read: `unread` is why.
    """

    target: str
    ports: Mapping[str, int]
    stop_timeout_s: float | None = None
    unread: PollErrorKind | None = None
