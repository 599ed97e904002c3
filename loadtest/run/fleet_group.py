"""The fleet processes of a run on this machine."""

from __future__ import annotations

import asyncio

from loadtest.fleet.commands import FleetCommand
from loadtest.processes.fleets import FleetProcess


class FleetGroup:
    """Those that were started. One that died is left out of what the others have to reach."""

    def __init__(self) -> None:
        self.processes: list[FleetProcess] = []

    @property
    def is_dead(self) -> bool:
        """Whether all processes died."""
        return bool(self.processes) and all(fleet.died for fleet in self.processes)

    def have_spoken(self) -> bool:
        """Whether each process wrote a sample, or died."""
        return all(fleet.last or fleet.died for fleet in self.processes)

    def have_told(self, time_ms: int) -> bool:
        """Whether each living process wrote a sample of this moment (ms since the Unix epoch), or of a later one."""
        return all(fleet.last and fleet.last.time_ms >= time_ms for fleet in self.processes if not fleet.died)

    def are_connected(self) -> bool:
        """Whether all devices that connect at the beginning are connected, or have given up."""
        living = [fleet for fleet in self.processes if not fleet.died]
        wanted = sum(fleet.part.opening for fleet in living)
        return sum(fleet.last.connected + fleet.last.given_up for fleet in living if fleet.last) >= wanted

    def are_settled(self) -> bool:
        """Whether no event waits for an answer."""
        living = [fleet.last for fleet in self.processes if fleet.last and not fleet.died]
        return not any(last.in_flight or last.waiting for last in living)

    async def tell(self, command: FleetCommand) -> None:
        """Send a command to all."""
        await asyncio.gather(*(fleet.tell(command) for fleet in self.processes))

    async def stop(self) -> None:
        """Stop all, and read their last samples."""
        await asyncio.gather(*(fleet.stop() for fleet in self.processes))

    async def kill(self) -> None:
        """End all at once."""
        await asyncio.gather(*(fleet.kill() for fleet in self.processes), return_exceptions=True)
