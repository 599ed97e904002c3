"""The clock of a stand-in cloud: simulated seconds, of which several pass in a real one."""

from __future__ import annotations

import asyncio
import time


class SimulatedClock:
    """Begins at 0."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        """Simulated seconds since it was made."""
        return (time.monotonic() - self._began_s) * self.speed

    async def sleep(self, seconds: float) -> None:
        """So many simulated seconds."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)

    async def until(self, moment_s: float) -> None:
        """Not before this moment."""
        await self.sleep(moment_s - self.now_s())
