"""How connections follow the weights of a deployment: how many a second, so that few move twice. Pure.

A device that is sent away comes back through the balancer, and meets the new revision with the probability `weight`;
else it is on an old task again, and will have to move once more. So the share of devices is not forced to equal the
weight. Each deployment has a budget of closes, (1 + hops) × n₀, with n₀ the connections when its weights began to move:

- Early, below half: at most hops × n₀, evenly over the bake times of these steps, so that a canary meets devices. Less
  where the later steps will need the budget, as with ten even steps: there each meets devices anyway.
- Late, from half on: all who are left, until the bake time ends. A close achieves `weight`, so the rate of a step goes
  with its weight; within a step it is even. With k × weight closes a second, ∫ k × weight² dt devices move.

A step that lasts longer than it was to (a hook waits) has had its share: nobody moves until the next one.

A service may answer from an old copy. So a weight that falls ends nothing: nobody moves until it is back. What goes
back for good has a status that says so.

A weight is noticed late, by up to a period of the polls, and so is the next one: a step is given its whole time from
when it was noticed, and the rate goes on without a gap. Only the last one, whose end is the clean-up, must have begun
as early as can be: right after the last answer that did not have it, or once the steps between had their time. Should
it last longer than that, whoever is left goes on at the even rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from gateway.drain.deployment import TINY, Deployment, Step

HALF = 0.5
# What was noticed late is made up for at most this many times as fast as it would have gone.
HURRY = 2.0


class Outcome(StrEnum):
    """How a shift ended. CLEAN_UP: the drain of the old tasks took over what was left."""

    ROLLED_BACK = "rolled_back"
    SUCCEEDED = "succeeded"
    CLEAN_UP = "clean_up"
    CANCELLED = "cancelled"


def needed(steps: Sequence[Step]) -> float:
    """Closes a device that the late steps cost, when all move in them: 1 at full weight, more before it."""
    late = [step for step in steps if step.weight >= HALF - TINY]
    moved = sum(step.weight**2 * step.lasts_s for step in late)
    return sum(step.weight * step.lasts_s for step in late) / moved if moved else 1.0


def early_share(steps: Sequence[Step], hops: float) -> float:
    """Of n₀, how many closes the early steps may cost: `hops`, or what the late steps leave of the budget."""
    return min(hops, max(0.0, 1 + hops - needed(steps)))


def early_s(steps: Sequence[Step]) -> float:
    """The bake times of the early steps together."""
    return sum(step.lasts_s for step in steps if step.weight < HALF - TINY)


class Shift:
    """One deployment that leaves our revision; `learn` what the service says, ask `rate_per_s`, tell `closed`.

    Moments are of one clock. It outlives the polls: what is spent stays spent, whatever is missed between them.
    `base` is n₀. It grows once, when the late steps begin, for a task that was started in the middle. `receivers` and
    `leavers`: running tasks of the new and the old revisions; 0: not told. `groups` are the target groups of the new
    one, as far as told.
    """

    def __init__(self, deployment: Deployment, connections: int, hops: float) -> None:
        self.id = deployment.id
        self.steps = deployment.steps
        self.base = connections
        self.spent = 0
        self.by_step = [0] * len(self.steps)
        self.weight = 0.0
        self.place = -1
        self.outcome: Outcome | None = None
        self.receivers = 0
        self.leavers = 0
        self.groups = deployment.target.groups
        self._hops = hops
        self._began_s = 0.0
        self._earliest_s = 0.0
        self._baking = False
        self._held = False
        self._fell = False
        self._fastest_per_s = 0.0
        self._late = False

    @property
    def budget(self) -> int:
        """The closes that this deployment may cost."""
        return int((1 + self._hops) * self.base)

    @property
    def early_budget(self) -> int:
        """The closes of it that the steps below half may cost."""
        return int(early_share(self.steps, self._hops) * self.base)

    @property
    def left(self) -> int:
        """Closes that are still allowed now."""
        spendable = self.budget if self._late else self.early_budget
        return max(0, spendable - self.spent)

    def learn(self, deployment: Deployment, connections: int, asked_s: float, now_s: float) -> None:
        """Take what a poll found now, and the connections. `asked_s`: when the poll before it was made."""
        weight = deployment.weight
        if weight is not None:
            self._fell = weight < self.weight - TINY
        if deployment.going_back:
            self.outcome = Outcome.ROLLED_BACK
        elif deployment.over:
            self.outcome = Outcome.SUCCEEDED
        # A weight may be there before the tasks are, or after them: nobody is sent to where nobody answers.
        self._held = deployment.cleans_up or deployment.target.tasks == 0 or self._fell
        self.receivers, self.leavers = deployment.target.tasks or 0, deployment.old_tasks
        self.groups = deployment.target.groups
        if weight is None or self._fell or self.outcome is not None:
            return
        place = _place(self.steps, weight)
        if place != self.place:
            self._earliest_s = min(now_s, self._could_begin_s(place, asked_s))
            self.place, self._began_s = place, now_s
        if deployment.bakes and not self._baking:
            self._baking, self._began_s = True, max(asked_s, self._earliest_s)
        self.weight = weight
        if weight >= HALF - TINY and not self._late:
            self._late = True
            self.base = max(self.base, connections)

    def end_s(self, now_s: float) -> float:
        """When the bake time will be over, as the steps say; a hook may make it later."""
        return now_s + sum(lasts_s for _, lasts_s in self._ahead(now_s))

    def rate_per_s(self, now_s: float, connections: int) -> float:
        """Closes a second at this moment; 0: nobody moves."""
        if self._held or self.outcome is not None or self.place < 0 or not self.left:
            return 0.0
        wanted = self._late_per_s(now_s, connections) if self._late else self._early_per_s(now_s)
        return min(wanted, HURRY * self._fastest_per_s)

    def closed(self, count: int, anyway: int = 0) -> None:
        """So many were sent away. `anyway` of them would have left now by their age: they cost nothing."""
        self.spent += count - anyway
        if 0 <= self.place < len(self.by_step):
            self.by_step[self.place] += count

    def _early_per_s(self, now_s: float) -> float:
        whole_s, left_s = early_s(self.steps), early_s(list(self._ahead(now_s)))
        self._fastest_per_s = self.early_budget / whole_s if whole_s else 0.0
        return self.left / left_s if left_s > 0 and not self._overdue(now_s) else 0.0

    def _late_per_s(self, now_s: float, connections: int) -> float:
        whole, ahead = _sum(self.steps[self.place :], 2), list(self._ahead(now_s))
        # As it would go, had the step been noticed at once.
        self._fastest_per_s = self.weight * self.base / whole if whole else 0.0
        if self._overdue(now_s):
            return self._fastest_per_s if self._is_last else 0.0
        moved, closes = (_sum(ahead, power) for power in (2, 1))
        if moved <= 0 or closes <= 0:
            return 0.0
        return self.weight * min(connections / moved, self.left / closes)

    def _overdue(self, now_s: float) -> bool:
        """Whether the step has had its time. Its end at full weight is only known once the bake time counts."""
        return now_s >= self._began_s + self.steps[self.place].lasts_s and not self._waits_for_bake

    def _could_begin_s(self, place: int, asked_s: float) -> float:
        """When a later step can have begun that was not there at `asked_s`."""
        between_s = sum(step.lasts_s for step in self.steps[self.place + 1 : place])
        own_s = self._earliest_s + self.steps[self.place].lasts_s - asked_s if 0 <= self.place < place else 0.0
        return asked_s + max(0.0, own_s) + between_s

    @property
    def _is_last(self) -> bool:
        return self.place == len(self.steps) - 1

    @property
    def _waits_for_bake(self) -> bool:
        return self._is_last and not self._baking

    def _ahead(self, now_s: float) -> Iterator[Step]:
        """What is left of the steps."""
        if self.place < 0:
            yield from self.steps
            return
        current = self.steps[self.place]
        passed_s = 0.0 if self._waits_for_bake else max(0.0, now_s - self._began_s)
        yield Step(max(current.weight, TINY), max(0.0, current.lasts_s - passed_s))
        yield from self.steps[self.place + 1 :]


def _sum(steps: Sequence[Step], power: int) -> float:
    return sum(step.weight**power * step.lasts_s for step in steps)


def _place(steps: Sequence[Step], weight: float) -> int:
    """The step that a weight belongs to: the last one that it has reached. -1: none yet."""
    if weight <= TINY:
        return -1
    return max((place for place, step in enumerate(steps) if step.weight <= weight + TINY), default=0)
