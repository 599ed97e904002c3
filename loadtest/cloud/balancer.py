"""The load balancer of a stand-in cloud: chooses the targets that get traffic. The front carries that out.

Not like AWS: there is one node in one zone, and news of a target reaches it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random

from gateway.drain.health import TargetState
from loadtest.cloud.elbv2 import Elbv2, TargetAddress

POLL_PERIOD_S = 5.0

Aim = Callable[[list[str]], Awaitable[None]]


class CrowdedElbv2(Elbv2):
    """An account in which `others` tasks poll every five simulated seconds and so use up its throttle.

    Their calls are played when a real one comes, each at its own moment, which leaves the same tokens for the real one.
    """

    def __init__(self, now_s: Callable[[], float], others: int = 0) -> None:
        super().__init__(now_s)
        self._per_s = others / POLL_PERIOD_S
        self._random = Random(others)
        self._next_s = now_s()

    def _call(self) -> None:
        now_s = self._now_s()
        while self._per_s and self._next_s <= now_s:
            self._bucket.take(self._next_s)
            # Many independent pollers are about a Poisson process.
            self._next_s += self._random.expovariate(self._per_s)
        super()._call()


def takes_traffic(states: Mapping[TargetAddress, TargetState]) -> list[TargetAddress]:
    """The targets that get new connections. Without a healthy one it fails open: those that failed their checks.

    Elastic Load Balancing user guide, "Health checks for Application Load Balancer target groups".
    """
    for wanted in (TargetState.HEALTHY, TargetState.UNHEALTHY):
        found = [address for address, state in states.items() if state is wanted]
        if found:
            return found
    return []


class Balancer:
    """One target group. All changes go through here, so that `aim` is called at once."""

    def __init__(self, elb: Elbv2, delay_s: float, aim: Aim, name: str = "gateway") -> None:
        self.elb = elb
        self.group = elb.add_group(name, delay_s)
        self._aim = aim
        self._urls: dict[TargetAddress, str] = {}
        self._told: list[str] | None = None
        self._news = asyncio.Event()

    async def register(self, address: TargetAddress, url: str) -> None:
        """Register a target: `initial`."""
        self._urls[address] = url
        self.elb.register(self.group, *address)
        await self._publish()

    async def judge(self, address: TargetAddress, *, healthy: bool) -> None:
        """Take the result of a health check."""
        self.elb.set_health(self.group, *address, healthy)
        await self._publish()

    async def deregister(self, *addresses: TargetAddress) -> None:
        """Deregister targets: they drain from now on."""
        for address in addresses:
            self.elb.deregister(self.group, *address)
        await self._publish()

    def state(self, address: TargetAddress) -> TargetState | None:
        """The state of a target; None: it is not registered."""
        return self.elb.states(self.group).get(address)

    async def becomes(self, address: TargetAddress, state: TargetState) -> None:
        """Wait until a target is in a state."""
        while self.state(address) is not state:
            self._news.clear()
            await self._news.wait()

    def urls(self) -> list[str]:
        """Where new connections go now."""
        return [self._urls[address] for address in takes_traffic(self.elb.states(self.group))]

    async def _publish(self) -> None:
        self._news.set()
        urls = self.urls()
        if urls != self._told:
            self._told = urls
            await self._aim(urls)
