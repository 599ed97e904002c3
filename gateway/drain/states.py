"""Where a process stands between its start and its end: one table, from which the diagram in the docs is drawn.

A transition that is not in the table raises and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum

from gateway.errors import IllegalTransitionError


class State(StrEnum):
    """REGISTERING: the load balancer has not listed us yet. SHIFTING: it serves, and connections follow the weights of
    a deployment to the new revision. DRAIN_PENDING: leaving is settled, not begun.

    DRAINED: no connection is left to send away. TERMINATING: the process ends, whatever the load balancer says.
    """

    REGISTERING = "registering"
    SERVING = "serving"
    SHIFTING = "shifting"
    DRAIN_PENDING = "drain_pending"
    DRAINING = "draining"
    DRAINED = "drained"
    TERMINATING = "terminating"
    EXITED = "exited"


class Signal(StrEnum):
    """What happened, from whichever source."""

    REGISTERED = "registered"
    SHIFTED = "shifted"
    SETTLED = "settled"
    WITHDRAWN = "withdrawn"
    LOST = "lost"
    RETURNED = "returned"
    ORDERED = "ordered"
    CANCELLED = "cancelled"
    BEGUN = "begun"
    EMPTY = "empty"
    ARRIVED = "arrived"
    TERMINATED = "terminated"
    ENDED = "ended"


MEANINGS: Mapping[Signal, str] = {
    Signal.REGISTERED: "the target is initial or healthy, or there is no target group to ask",
    Signal.SHIFTED: "the weights of a deployment away from our revision have moved",
    Signal.SETTLED: "that deployment is over, or its weights go back",
    Signal.WITHDRAWN: "the target is draining",
    Signal.LOST: "the target is not registered any more, and was never seen draining",
    Signal.RETURNED: "initial or healthy twice in a row, in a drain that target health began",
    Signal.ORDERED: "the API or SIGUSR1 asks for a drain",
    Signal.CANCELLED: "the API cancels the drain, or the shift",
    Signal.BEGUN: "enough receivers are healthy, or a tenth of the window has passed",
    Signal.EMPTY: "no websocket is left",
    Signal.ARRIVED: "a late websocket came in",
    Signal.TERMINATED: "SIGTERM",
    Signal.ENDED: "all websockets are gone, or the time is over",
}

_SERVING = (State.SERVING, State.SHIFTING)
_BEFORE = (State.REGISTERING, *_SERVING)
_LEAVING = (State.DRAIN_PENDING, State.DRAINING, State.DRAINED)

TABLE: Mapping[tuple[State, Signal], State] = {
    (State.REGISTERING, Signal.REGISTERED): State.SERVING,
    (State.SERVING, Signal.SHIFTED): State.SHIFTING,
    (State.SHIFTING, Signal.SETTLED): State.SERVING,
    **{(state, Signal.WITHDRAWN): State.DRAIN_PENDING for state in _SERVING},
    **{(state, Signal.LOST): State.DRAINING for state in _SERVING},
    **{(state, Signal.ORDERED): State.DRAIN_PENDING for state in _BEFORE},
    (State.DRAIN_PENDING, Signal.BEGUN): State.DRAINING,
    (State.DRAINING, Signal.EMPTY): State.DRAINED,
    (State.DRAINED, Signal.ARRIVED): State.DRAINING,
    **{(state, Signal.RETURNED): State.SERVING for state in _LEAVING},
    **{(state, Signal.CANCELLED): State.SERVING for state in (State.SHIFTING, *_LEAVING)},
    **{(state, Signal.TERMINATED): State.TERMINATING for state in (*_BEFORE, *_LEAVING)},
    (State.TERMINATING, Signal.ENDED): State.EXITED,
}


class Reaction(Enum):
    """What a signal of target health asks for.

    STAY: only where target health began the drain. BEGIN and SHORTEN: not after a person took a drain back, until the
    balancer has said something else. SHORTEN: a person began it, or the delay was not known; the balancer cuts at
    the end of that.
    """

    SERVE = "serve"
    BEGIN = "begin a drain"
    SHORTEN = "shorten the drain under way"
    STAY = "take the drain back"


_GONE = (Signal.WITHDRAWN, Signal.LOST)
# What is not in here asks for nothing.
HEARD: Mapping[tuple[State, Signal], Reaction] = {
    **{(State.REGISTERING, signal): Reaction.SERVE for signal in (Signal.REGISTERED, Signal.RETURNED)},
    **{(state, signal): Reaction.BEGIN for state in _SERVING for signal in _GONE},
    **{(state, signal): Reaction.SHORTEN for state in (*_LEAVING, State.TERMINATING) for signal in _GONE},
    **{(state, Signal.RETURNED): Reaction.STAY for state in _LEAVING},
}
# Of the window, spent on waiting for receivers that are not there yet.
_GUARD_SHARE = 0.1


def may_begin(healthy: int | None, min_receivers: int, passed_share: float) -> bool:
    """Whether closing may begin: enough receivers are there, or it cannot wait for them any longer.

    `healthy` are the receivers; None: there is no target group to tell. `passed_share` is that of the window.
    """
    return healthy is None or healthy >= min_receivers or passed_share >= _GUARD_SHARE


def due(state: State, connections: int, remaining: int, may_begin: bool) -> Signal | None:
    """What follows by itself in a drain. `remaining` are the connections that nobody has sent away yet."""
    if state is State.DRAIN_PENDING and may_begin:
        return Signal.BEGUN
    if state is State.DRAINED and remaining:
        return Signal.ARRIVED
    if state is State.DRAINING and not connections:
        return Signal.EMPTY
    return None


def follow(state: State, signal: Signal) -> State:
    """The state after `signal`. Raises IllegalTransitionError where the table has none."""
    following = TABLE.get((state, signal))
    if following is None:
        raise IllegalTransitionError(f"{signal.value} cannot happen while {state.value}")
    return following


def is_leaving(state: State) -> bool:
    """Whether a drain is under way, or done, that can still be taken back."""
    return state in _LEAVING


def is_refusing(state: State) -> bool:
    """Whether the process is not ready for traffic: it leaves, or ends."""
    return is_leaving(state) or state in (State.TERMINATING, State.EXITED)


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.REGISTERING}"]
    lines += [f"    {state} --> {following}: {signal}" for (state, signal), following in TABLE.items()]
    return "\n".join([*lines, f"    {State.EXITED} --> [*]"])
