"""What a container service says of a deployment that moves traffic by weights, and what our part in it is. Pure.

Amazon ECS developer guide, "Amazon ECS linear deployments", "canary deployments", "blue/green deployments": a weight
sends *new requests* to a revision. A websocket stays where it was upgraded.
"""

from __future__ import annotations

from collections.abc import Container
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

MINUTE_S = 60.0
# API reference, LinearConfiguration and CanaryConfiguration: what holds where the service says nothing.
LINEAR_STEP_PERCENT, LINEAR_BAKE_MINUTES = 10.0, 6.0
CANARY_PERCENT, CANARY_BAKE_MINUTES = 5.0, 10.0
BAKE_TIME, CLEAN_UP = "BAKE_TIME", "CLEAN_UP"
# API reference, ServiceDeployment, `lifecycleStage`, in their order.
STAGES = (
    *("RECONCILE_SERVICE", "PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP"),
    *("PRE_TEST_TRAFFIC_SHIFT", "TEST_TRAFFIC_SHIFT", "POST_TEST_TRAFFIC_SHIFT"),
    *("PRE_PRODUCTION_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT"),
    *(BAKE_TIME, CLEAN_UP),
)
# Weights are multiples of 0.1 %.
TINY = 5e-4


class Strategy(StrEnum):
    """Those of ECS that move traffic by weights; a rolling deploy has none."""

    BLUE_GREEN = "BLUE_GREEN"
    LINEAR = "LINEAR"
    CANARY = "CANARY"


class Side(StrEnum):
    """SOURCE: our revision is to be replaced. TARGET: it is the new one. UNKNOWN: the evidence does not say."""

    SOURCE = "source"
    TARGET = "target"
    UNKNOWN = "unknown"


class Step(NamedTuple):
    """The new revision gets this part of the new connections (0 to 1), for so long before the next step."""

    weight: float
    lasts_s: float


class Revision(Struct, frozen=True):
    """A service revision: its task definition (`family:7`) and the target groups that send it traffic, as far as told.

    `weight`: its part of production traffic, 0 to 1; None: not told. `tasks` are running; None: not told.
    """

    arn: str
    weight: float | None = None
    tasks: int | None = None
    definition: str = ""
    groups: frozenset[str] = frozenset()


class Deployment(Struct, frozen=True):
    """One service deployment. `strategy` None: it moves no weights. `bake_s`: both run after all traffic has moved.

    `going_back`: it is rolled back, or stopped. `over`: nothing of it follows any more. `stage` is as the service calls
    it; one that is not known here changes nothing.
    """

    id: str
    strategy: Strategy | None
    target: Revision
    sources: tuple[Revision, ...] = ()
    steps: tuple[Step, ...] = ()
    stage: str = ""
    going_back: bool = False
    over: bool = False

    @property
    def weight(self) -> float | None:
        """The part of new connections that the new revision gets; None: not told."""
        if self.target.weight is not None:
            return self.target.weight
        told = [source.weight for source in self.sources if source.weight is not None]
        return max(0.0, 1 - sum(told)) if told and len(told) == len(self.sources) else None

    @property
    def bakes(self) -> bool:
        """All traffic has moved, and the time before the clean-up counts; so it may at a stage that is not known."""
        return self.stage == BAKE_TIME or (self.stage not in STAGES and (self.weight or 0.0) > 1 - TINY)

    @property
    def cleans_up(self) -> bool:
        """The old tasks are being removed: their drain is another matter."""
        return self.stage == CLEAN_UP

    @property
    def old_tasks(self) -> int:
        """Running, as far as told."""
        return sum(source.tasks or 0 for source in self.sources)


def steps(
    strategy: Strategy | None, bake_s: float, percent: float | None = None, lasts_s: float | None = None
) -> tuple[Step, ...]:
    """The steps of a strategy to the end of its bake time. `percent` and `lasts_s`: of a step, or of the canary.

    The last step of a linear deployment has no bake time of its own ("not applied after reaching 100 percent").
    """
    last = Step(1.0, bake_s)
    if strategy is Strategy.CANARY:
        share = (CANARY_PERCENT if percent is None else percent) / 100
        own_s = CANARY_BAKE_MINUTES * MINUTE_S if lasts_s is None else lasts_s
        return (Step(share, own_s), last) if share < 1 - TINY else (last,)
    if strategy is Strategy.LINEAR:
        share = max((LINEAR_STEP_PERCENT if percent is None else percent) / 100, 0.001)
        own_s = LINEAR_BAKE_MINUTES * MINUTE_S if lasts_s is None else lasts_s
        before: list[Step] = []
        while (len(before) + 1) * share < 1 - TINY:
            before.append(Step(round((len(before) + 1) * share, 4), own_s))
        return (*before, last)
    return (last,) if strategy is Strategy.BLUE_GREEN else ()


def side(deployment: Deployment, definition: str, listed_in: Container[str]) -> Side:
    """Our part in a deployment. `definition`: our task definition; `listed_in`: the target groups that list us.

    The task definition decides where the revisions differ in it. Where they do not (a forced deployment, a change of
    the service alone), the target group does: each revision has one of the pair. Where both do not tell, nobody moves.
    """
    target, sources = deployment.target, deployment.sources
    others = {source.definition for source in sources}
    if definition and target.definition and "" not in others and others and target.definition not in others:
        if definition == target.definition:
            return Side.TARGET
        return Side.SOURCE if definition in others else Side.UNKNOWN
    elsewhere = frozenset[str]().union(*(source.groups for source in sources))
    if elsewhere & target.groups:
        return Side.UNKNOWN
    new, old = (any(group in listed_in for group in groups) for groups in (target.groups, elsewhere))
    if new == old:
        return Side.UNKNOWN
    return Side.TARGET if new else Side.SOURCE
