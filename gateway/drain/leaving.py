"""One drain that is under way: who began it, and what has to be known of it at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.drain.pacer import Pacer
from gateway.drain.receipt import Receipt, ShiftReceipt, StepReceipt, Tally
from gateway.drain.standing import Standing
from gateway.drain.weights import Shift


class Origin(StrEnum):
    """Who began a drain."""

    TARGET_HEALTH = "target_health"
    API = "api"
    SIGUSR1 = "sigusr1"
    SIGTERM = "sigterm"
    WEIGHTS = "weights"


@dataclass(slots=True)
class Leaving:
    """One drain from its beginning."""

    origin: Origin
    began_s: float
    began_ms: int
    window_s: float
    pacer: Pacer
    connections: int
    before: Counter[str]
    tally: Tally = field(default_factory=Tally)
    leftover: int = 0
    # Of a deployment by weights; None: everybody is to go.
    shift: Shift | None = None

    def passed_share(self, now_s: float) -> float:
        """How much of the window is over, 1 at its end."""
        whole_s = self.pacer.deadline_s - self.began_s
        return (now_s - self.began_s) / whole_s if whole_s > 0 else 1.0

    def shorten(self, deadline_s: float) -> None:
        """End no later than that."""
        if deadline_s < self.pacer.deadline_s:
            self.pacer.deadline_s = deadline_s
            self.window_s = deadline_s - self.began_s


def receipt_of(
    leaving: Leaving, outcome: str, now_s: float, standing: Standing, closed: Counter[str], remaining: int
) -> Receipt:
    """What it did until now. `closed`: all ends of connections so far, by cause; `remaining`: those that stay."""
    step_s, closes = leaving.tally.steps()
    closed = closed - leaving.before
    return Receipt(
        origin=leaving.origin.value,
        outcome=outcome,
        began_ms=leaving.began_ms,
        took_s=round(now_s - leaving.began_s, 3),
        window_s=round(leaving.window_s, 3),
        connections=leaving.connections,
        sent_away=leaving.tally.total,
        leftover=leaving.leftover,
        overrun=leaving.pacer.overrun,
        even_rate_per_s=round(leaving.connections / leaving.window_s, 3) if leaving.window_s else 0.0,
        highest_per_s=leaving.tally.highest_per_s,
        step_s=step_s,
        closes=closes,
        closed=dict(sorted(closed.items())),
        receivers=standing.peers.healthy if standing.grouped else None,
        draining=standing.peers.draining if standing.grouped else None,
        shift=None if leaving.shift is None else _shift_receipt(leaving.shift, remaining),
    )


def _shift_receipt(shift: Shift, stayed: int) -> ShiftReceipt:
    steps = [StepReceipt(step.weight, sent) for step, sent in zip(shift.steps, shift.by_step, strict=True)]
    hops = shift.spent / shift.base if shift.base else 0.0
    return ShiftReceipt(shift.id, shift.budget, round(hops, 4), stayed, steps)
