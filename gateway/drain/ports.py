"""What the part needs from outside: the load balancer's word, and where receipts go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gateway.drain.deployment import Deployment
from gateway.drain.guard import Action, Pause, Readings
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


class Deployments(Protocol):
    """What the container service says of the deployment of our service. Calls are as those of TargetHealth."""

    async def definition(self) -> str:
        """The task definition of this process (`family:7`); "": not told."""

    async def deployment(self) -> Deployment | None:
        """The deployment that goes on, or the last one once it is over; None: there is none."""

    async def close(self) -> None:
        """Release connections."""


class GuardedState(NamedTuple):
    """`pause`: the hook that waits. `outcome`: whether the last deployment succeeded, once it is over."""

    goes_on: bool
    pause: Pause | None = None
    outcome: bool | None = None


class Guarded(Protocol):
    """The deployment of one service, and what its revisions told. Calls are as those of TargetHealth."""

    async def state(self) -> GuardedState:
        """Where it stands."""

    async def readings(self, revision: str, minutes: int) -> Readings:
        """What a revision told in the last whole minutes that are known."""

    async def resume(self, pause: Pause, action: Action) -> bool:
        """Continue, or roll back. False: somebody else was first, or the hook has timed out."""

    async def close(self) -> None:
        """Release connections."""
