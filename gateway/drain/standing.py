"""What is known of the load balancer at one moment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from gateway.drain.signals import Peers


class Standing(Struct, frozen=True):
    """`delay_s` is the deregistration delay, `period_s` the time between two polls.

    `grouped` false: there is no target group, or none has told us anything yet. `stop_timeout_s` is the task
    definition's; None: not known. `healthy` are the targets of each group that take connections.
    """

    grouped: bool = False
    delay_s: float = 300.0
    period_s: float = 5.0
    peers: Peers = field(default_factory=Peers)
    stop_timeout_s: float | None = None
    healthy: Mapping[str, int] = {}

    def receives(self, groups: Iterable[str]) -> bool:
        """Whether one of these groups has a healthy target, or none of them is known here. Tasks may run and take
        nobody."""
        known = [self.healthy[group] for group in groups if group in self.healthy]
        return not known or any(known)
