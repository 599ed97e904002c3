"""The deployment whose weights the connections of this process follow: one at a time, each with a budget of its own."""

from __future__ import annotations

from gateway.connections.eviction import Elders
from gateway.drain.deployment import TINY, Deployment, Side
from gateway.drain.states import Signal
from gateway.drain.weights import Outcome, Shift


class Following:
    """`shift` is the one under way, `seen` the last answer about it.

    It outlives a drain that is taken back, with what it has spent.

    Deployments that are over are not followed again, whatever their weights say then. One that an answer does not name
    any more moves nobody, and ends when the next one does not either: a service may answer from an old copy. Should it
    be named again after all, it goes on with what is left of its budget.
    """

    def __init__(self, hops: float) -> None:
        self._hops = hops
        self._over = ""
        self._doubted = False
        self._lost: Shift | None = None
        self._fresh_until_s = float("-inf")
        self.shift: Shift | None = None
        self.seen: Deployment | None = None
        self.elders = Elders(0)

    def learn(
        self, found: Deployment | None, own: Side, asked_s: float, now_s: float, connections: int, time_ms: int
    ) -> Signal | None:
        """What a question about the deployment found; None: nothing follows.

        `asked_s`: when the question before it was asked, `now_s` and `time_ms`: now, by the drain's and by the wall
        clock, `connections`: those that nobody has sent away yet.
        """
        self.seen = found
        shift = self.shift
        if shift is not None and (found is None or found.id != shift.id):
            if not self._doubted:
                self._doubted = True
                return None
            # It ended between two questions, and the next one has begun: what became of it nobody knows.
            shift.outcome, self._lost = Outcome.SUCCEEDED, shift
            return Signal.SETTLED
        self._doubted = False
        if found is None or found.id == self._over:
            return None
        if shift is None and (found.going_back or found.over):
            # Whoever missed it is not taken in by an answer that is older than this one.
            self._over = found.id
        elif shift is None and self._begins(found, own):
            shift = self.shift = self._begun(found, connections, time_ms)
        if shift is None:
            return None
        shift.learn(found, connections, asked_s, now_s)
        return Signal.SHIFTED if shift.outcome is None else Signal.SETTLED

    def believe(self, until_s: float) -> None:
        """An answer is believed until then; an old one may hide a rollback, and nobody moves on it."""
        self._fresh_until_s = until_s

    def rate_per_s(self, now_s: float, connections: int) -> float:
        """Closes a second at this moment."""
        if self.shift is None or self._doubted or now_s > self._fresh_until_s:
            return 0.0
        return self.shift.rate_per_s(now_s, connections)

    def end_s(self, now_s: float) -> float:
        """When the bake time of the shift will be over, as its steps say."""
        return now_s if self.shift is None else self.shift.end_s(now_s)

    def end(self) -> None:
        """The shift is over: its deployment moves nobody any more."""
        if self.shift is not None and self.shift is not self._lost:
            self._over = self.shift.id
        self.shift, self._doubted = None, False

    def _begun(self, found: Deployment, connections: int, time_ms: int) -> Shift:
        lost, self._lost = self._lost, None
        if lost is not None and lost.id == found.id:
            lost.outcome = None
            return lost
        self.elders = Elders(time_ms)
        return Shift(found, connections, self._hops)

    @staticmethod
    def _begins(found: Deployment, own: Side) -> bool:
        return own is Side.SOURCE and bool(found.steps) and (found.weight or 0.0) > TINY
