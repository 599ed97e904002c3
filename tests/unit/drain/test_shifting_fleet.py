"""Gateways that follow the same weights, each by its own polls: all of them together are even in each step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest

from gateway.drain import polling
from gateway.drain.deployment import TINY, Deployment, Revision, Step, Strategy, steps
from gateway.drain.pacer import NO_BOUND_PER_S, TICK_S, Pacer
from gateway.drain.weights import HALF, Shift

GATEWAYS, EACH = 4, 5000
# From one step to the next, as a stage without a hook takes.
STAGE_S = 5.0


class Gateway:
    """One old task: its connections, its shift, and its polls of the service's weights."""

    def __init__(self, of: Sequence[Step], chance: Random) -> None:
        self.left = EACH
        self._chance = chance
        self._shift = Shift(seen(of, -1), EACH, 0.25)
        self._offset_s = chance.uniform(0, TICK_S)
        self._pacer = Pacer(self._offset_s, math.inf, chance.random())
        self._asked_s, self._asks_s = 0.0, chance.uniform(0, polling.MIN_DEPLOYMENT_PERIOD_S)

    def tick(self, begin_s: float, found: Deployment) -> int:
        """Poll when it is time; how many leave."""
        now_s = begin_s + self._offset_s
        if now_s >= self._asks_s:
            self._shift.learn(found, self.left, self._asked_s, now_s)
            period_s = polling.deployment_period_s(2 * GATEWAYS)
            self._asked_s, self._asks_s = now_s, now_s + polling.pause_s(period_s, self._chance)
        rate_per_s = self._shift.rate_per_s(now_s, self.left)
        count = self._pacer.steady(now_s, rate_per_s, min(self.left, self._shift.left), NO_BOUND_PER_S)
        self._pacer.closed(count)
        self._shift.closed(count)
        self.left -= count
        return count


def seen(of: Sequence[Step], place: int) -> Deployment:
    weight = of[place].weight if place >= 0 else 0.0
    stage = "BAKE_TIME" if weight > 1 - TINY else "PRODUCTION_TRAFFIC_SHIFT"
    return Deployment("d", Strategy.LINEAR, Revision("new", weight), steps=tuple(of), stage=stage)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("strategy", Strategy)
def test_the_highest_second_of_a_step_is_near_the_even_rate(strategy: Strategy, seed: int) -> None:
    """Connections are whole: four gateways of 2.2 a second each make twelve now and then, whoever asks them to."""
    chance, of = Random(seed), steps(strategy, 600)
    gateways = [Gateway(of, chance) for _ in range(GATEWAYS)]
    begins = [60.0]
    for step in of:
        begins.append(begins[-1] + step.lasts_s + STAGE_S)
    closes: Counter[int] = Counter()
    for tick in range(round(begins[-1] / TICK_S)):
        begin_s = tick * TICK_S
        place = sum(begin_s >= moment_s for moment_s in begins) - 1
        for gateway in gateways:
            count = gateway.tick(begin_s, seen(of, place))
            closes[int(begin_s)] += count
            returns = sum(chance.random() >= of[place].weight for _ in range(count))
            for _ in range(returns):
                chance.choice(gateways).left += 1
    for step, (begin_s, end_s) in zip(of, pairwise(begins), strict=True):
        counts = [closes[second] for second in range(int(begin_s), int(end_s))]
        even = sum(counts) / step.lasts_s
        if step.weight >= HALF or strategy is Strategy.CANARY:
            assert max(counts) <= max(1.3 * even, GATEWAYS * math.ceil(even / GATEWAYS)), (step, even)
    assert sum(gateway.left for gateway in gateways) <= 20
