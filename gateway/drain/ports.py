"""What the part needs from outside: the load balancer's word, and where receipts go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.drain.health import GroupAttributes, GroupHealth, Membership
from gateway.drain.receipt import Receipt


class Receipts(Protocol):
    """Where receipts of drains are kept."""

    def keep(self, receipt: Receipt) -> None:
        """Store it; blocks. Raises StoreError."""


class TargetHealth(Protocol):
    """What the load balancer and the container service say of this process.

    Every call is bounded in time and raises CallError, whose `kind` says which answer it was; cancelling is harmless.
    """

    async def membership(self) -> Membership:
        """Own target and its groups. A service may have no group yet: then `ports` is empty."""

    async def attributes(self, group: str) -> GroupAttributes:
        """The settings of a target group (ARN)."""

    async def health(self, group: str, target: str, port: int, also: Sequence[str] = ()) -> GroupHealth:
        """The state of all targets of a group, by one unfiltered call; `target` and `port` are the own one, `also` its
        other addresses."""

    async def close(self) -> None:
        """Release connections."""
