"""What a load balancer says of a target group, in ELB's own words.

Elastic Load Balancing API reference, DescribeTargetHealth and TargetHealth; states as of version 2015-12-01.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import IPv6Address, ip_address

from msgspec import Struct, field

from gateway.errors import CallErrorKind


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


def place(target: str, port: int) -> str:
    """A target in the one way in which it is written here: `10.0.0.1:8080`, `[2001:db8::1]:8080`, `i-0abc:32768`.

    Addresses are parsed: the same one has many spellings, and services differ in which they use.
    """
    try:
        address = ip_address(target.strip("[]"))
    except ValueError:
        return f"{target}:{port}"
    if isinstance(address, IPv6Address):
        return f"{address.ipv4_mapped}:{port}" if address.ipv4_mapped else f"[{address}]:{port}"
    return f"{address}:{port}"


class GroupHealth(Struct, frozen=True):
    """One poll of one target group.

    `own` is None when this process's target is not registered. `targets` are all that it lists, by their `place`.
    """

    own: TargetState | None
    targets: Mapping[str, TargetState] = field(default_factory=dict)

    @property
    def healthy(self) -> int:
        """Targets that take connections: those that are not checked, too."""
        return sum(state in (TargetState.HEALTHY, TargetState.UNAVAILABLE) for state in self.targets.values())


class GroupAttributes(Struct, frozen=True):
    """`network`: a Network Load Balancer's group. `termination`: it cuts connections when the delay ends."""

    delay_s: float = 300.0
    network: bool = False
    termination: bool = False


class Membership(Struct, frozen=True):
    """Where this process stands: `target` is an IP address or an instance id, `ports` by target group ARN.

    `also` are its other addresses: a task with two stacks may be registered by either.
    `stop_timeout_s` is the task definition's; None: it says nothing, or could not be read: `unread` is why.
    `hidden` says why target groups may exist that could not be found; "": there are no others.
    """

    target: str
    ports: Mapping[str, int]
    stop_timeout_s: float | None = None
    unread: CallErrorKind | None = None
    also: tuple[str, ...] = ()
    hidden: str = ""

    def places(self) -> Iterator[str]:
        """Every way in which a group may list this process."""
        for port in set(self.ports.values()):
            for target in (self.target, *self.also):
                yield place(target, port)
