"""Where the drain of this process stands, in figures: computed once, for the HTTP API and for metrics."""

from __future__ import annotations

from msgspec import Struct

from gateway.drain.drainer import Drainer
from gateway.drain.leaving import Leaving
from gateway.drain.receipt import Receipt
from gateway.drain.states import State
from gateway.drain.target_health import TargetHealthWatch


class DrainProgress(Struct, frozen=True):
    """A drain that goes on. `seconds_left` is 0 when its time is over."""

    origin: str
    began_ms: int
    window_s: float
    seconds_left: float
    connections: int
    sent_away: int
    rate_target_per_s: float
    rate_actual_per_s: int
    overrun: int


class ShiftProgress(Struct, frozen=True):
    """A deployment whose weights the connections follow. `weight`: what the new revision gets of new connections.

    `budget`: the closes that it may cost, `spent` so far. `stage`: as Amazon ECS calls it.
    """

    deployment: str
    strategy: str
    stage: str
    weight: float
    budget: int
    spent: int


class DrainStatus(Struct, frozen=True):
    """Where this process stands. `progress` null: no drain goes on. `receipt`: of the last one, null: there was none.

    `signal_up`: the load balancer can be asked; null: there is none. `peers`: other targets by ELB state.
    `shift` null: no deployment by weights goes on that would replace this revision.
    """

    state: str
    connections: int
    remaining: int
    signal_up: bool | None
    poll_age_s: float | None
    peers: dict[str, int]
    progress: DrainProgress | None
    receipt: Receipt | None
    shift: ShiftProgress | None = None


def status_of(drainer: Drainer, watch: TargetHealthWatch | None) -> DrainStatus:
    """The figures of this moment. `watch` None: there is no load balancer to follow."""
    now_s = drainer.now_s()
    leaving = None if drainer.state in (State.DRAINED, State.EXITED) else drainer.leaving
    polled_s = watch.polled_s if watch is not None else None
    return DrainStatus(
        state=drainer.state.value,
        connections=drainer.connections,
        remaining=drainer.remaining,
        signal_up=watch.signal_up if watch is not None and not watch.alone else None,
        poll_age_s=None if polled_s is None else round(now_s - polled_s, 3),
        peers={state.value: count for state, count in drainer.standing.peers.states.items()},
        progress=None if leaving is None else _progress(leaving, now_s),
        receipt=drainer.last,
        shift=_shift(drainer),
    )


def _shift(drainer: Drainer) -> ShiftProgress | None:
    shift, seen = drainer.following.shift, drainer.following.seen
    if shift is None or seen is None:
        return None
    strategy = seen.strategy.value if seen.strategy else ""
    return ShiftProgress(shift.id, strategy, seen.stage, shift.weight, shift.budget, shift.spent)


def _progress(leaving: Leaving, now_s: float) -> DrainProgress:
    return DrainProgress(
        origin=leaving.origin.value,
        began_ms=leaving.began_ms,
        window_s=round(leaving.window_s, 3),
        seconds_left=round(max(0.0, leaving.pacer.deadline_s - now_s), 3),
        connections=leaving.connections,
        sent_away=leaving.tally.total,
        rate_target_per_s=round(leaving.pacer.rate_per_s, 3),
        rate_actual_per_s=leaving.tally.last_per_s(now_s - leaving.began_s),
        overrun=leaving.pacer.overrun,
    )
