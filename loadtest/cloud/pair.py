"""A blue/green pair of target groups behind one listener rule: the weights of the rule choose the group.

Elastic Load Balancing user guide, "Forward actions": each group gets requests in proportion to its weight. Inferred,
and so played here: a websocket stays with the target it was upgraded at, whatever the weights do; a group without a
healthy target gets its part all the same, but then the other takes it here, so that a mistake of a scenario is no loss.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from loadtest.cloud.balancer import Balancer
from loadtest.cloud.elbv2 import Elbv2

WeightedAim = Callable[[list[str], list[float]], Awaitable[None]]


class Pair:
    """`blue` and `green` are the groups; `part` is what green gets of new connections, 0 to 1."""

    def __init__(self, elb: Elbv2, delay_s: float, aim: WeightedAim) -> None:
        self._aim = aim
        self.part = 0.0
        self.blue = Balancer(elb, delay_s, self._news, "blue")
        self.green = Balancer(elb, delay_s, self._news, "green")

    async def shift(self, part: float) -> None:
        """Green gets this part of new connections from now on."""
        self.part = part
        await self._news([])

    def urls(self) -> list[str]:
        """Where new connections go now."""
        return self._weighted()[0]

    def _weighted(self) -> tuple[list[str], list[float]]:
        groups = [(self.blue.urls(), 1 - self.part), (self.green.urls(), self.part)]
        taking = [(urls, part) for urls, part in groups if urls and part > 0]
        taking = taking or [(urls, 1.0) for urls, _ in groups if urls]
        urls = [url for each, _ in taking for url in each]
        return urls, [part / len(each) for each, part in taking for _ in each]

    async def _news(self, _: list[str]) -> None:
        await self._aim(*self._weighted())
