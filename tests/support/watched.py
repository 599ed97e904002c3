"""A gateway that watches its target health, on a fake clock and a fake load balancer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from gateway.drain.health import TargetState
from gateway.drain.states import State
from gateway.drain.target_health import TargetHealthWatch
from tests.support.bench import Bench
from tests.support.fake_target_health import GROUP, PORT, TARGET, FakeTargetHealth

GREEN = GROUP.replace("web", "green")


class World:
    def __init__(self, *flags: str) -> None:
        self.bench = Bench(*flags)
        self.drainer = self.bench.drainer
        self.health = FakeTargetHealth({f"{TARGET}:{PORT}": TargetState.INITIAL})
        self.watch = TargetHealthWatch(self.health, self.drainer, self.bench.hub, random.Random(3), 1000)

    async def sees(self, *states: TargetState | None) -> State:
        for state in states:
            self.health.set(state)
            self.bench.clock.advance(5)
            await self.watch.poll()
        return self.drainer.state

    async def runs_until(self, so: Callable[[], bool]) -> None:
        """Let it poll by itself, its pauses of milliseconds, until that is so."""
        running = asyncio.create_task(self.watch.run())
        async with asyncio.timeout(10):
            while not so():  # noqa: ASYNC110 - the next turn of the loop, not a time
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
