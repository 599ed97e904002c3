"""The clock of a stand-in cloud: simulated seconds, several of which pass in a real one."""

from __future__ import annotations

import asyncio
import time


class SimulatedClock:
    """`speed` simulated seconds pass in a real one, from 0 on."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        """Simulated seconds since the clock was made."""
        return (time.monotonic() - self._began_s) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Sleep for simulated seconds."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)

    async def until(self, moment_s: float) -> None:
        """Sleep until a simulated moment."""
        await self.sleep(moment_s - self.now_s())
