"""What the polls of target health mean: from what the load balancer lists to a signal for the state machine. Pure.

Only what a group said is believed: an error changes nothing, so it never drains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from enum import Enum

from msgspec import Struct

from gateway.drain.health import GroupHealth, TargetState
from gateway.drain.states import Signal

_GOOD = frozenset({TargetState.HEALTHY, TargetState.INITIAL})
# One healthy answer in a drain may be a group that lags behind; two in a row are a decision.
RETURNED_AFTER = 2


class Presence(Enum):
    """How the groups together list the own target. OTHER: registered, in a state that says nothing about leaving."""

    GOOD = "good"
    DRAINING = "draining"
    OTHER = "other"
    ABSENT = "absent"


class Peers(Struct, frozen=True):
    """The other targets of the groups, each counted once: in a blue/green pair both colours, in two balancers one."""

    healthy: int = 0
    draining: int = 0
    total: int = 0
    states: Mapping[TargetState, int] = {}


def presence(states: Iterable[TargetState | None]) -> Presence:
    """Draining only when no group lists the target as initial or healthy."""
    listed = [state for state in states if state is not None]
    if any(state in _GOOD for state in listed):
        return Presence.GOOD
    if TargetState.DRAINING in listed:
        return Presence.DRAINING
    return Presence.OTHER if listed else Presence.ABSENT


def peers(groups: Iterable[GroupHealth], own: Container[str] = ()) -> Peers:
    """Count the targets of all groups but the `own`; one that several list counts by the best it is anywhere."""
    best: dict[str, TargetState] = {}
    for group in groups:
        for name, state in group.targets.items():
            if name in own:
                continue
            known = best.get(name)
            if known is None or _RANK[state] < _RANK[known]:
                best[name] = state
    counts = Counter(best.values())
    return Peers(counts[TargetState.HEALTHY], counts[TargetState.DRAINING], len(best), dict(counts))


_RANK = {
    state: rank
    for rank, state in enumerate(
        (
            TargetState.HEALTHY,
            TargetState.INITIAL,
            TargetState.DRAINING,
            TargetState.UNHEALTHY_DRAINING,
            TargetState.UNHEALTHY,
            TargetState.UNUSED,
            TargetState.UNAVAILABLE,
        )
    )
}


class Watch:
    """The memory between polls. `registered_s` is when the last poll was asked before the target began to drain.

    None: it was never seen initial or healthy. Unhealthy is registered, too: the delay begins with the deregistration.
    """

    def __init__(self) -> None:
        self.registered_s: float | None = None
        self._good_in_a_row = 0
        self._draining_seen = False

    def judge(self, asked_s: float, states: Iterable[TargetState | None]) -> Signal | None:
        """The signal of one round of polls: the own state in every group, asked at `asked_s` (monotonic).

        None: nothing follows from it. A target that was never seen initial or healthy is not ours: addresses and ports
        are reused, and what is draining there may be another task's end.
        """
        found = presence(states)
        if found is Presence.GOOD:
            self._good_in_a_row += 1
            self._draining_seen = False
            self.registered_s = asked_s
            return Signal.RETURNED if self._good_in_a_row >= RETURNED_AFTER else Signal.REGISTERED
        self._good_in_a_row = 0
        if self.registered_s is None:
            return None
        if found is Presence.OTHER:
            if not self._draining_seen:
                self.registered_s = asked_s
            return None
        if found is Presence.DRAINING:
            self._draining_seen = True
            return Signal.WITHDRAWN
        return None if self._draining_seen else Signal.LOST
