"""Once a second: what the processes of a run and Linux itself use."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from loadtest.processes import machine
from loadtest.results.records import ProcessReading
from loadtest.run.fleet_group import FleetGroup
from loadtest.run.gateway_group import GatewayGroup
from loadtest.run.run_log import RunLog

# Reading smaps_rollup walks the whole process, which can map no memory meanwhile: rarely, and not during a deploy.
WHOLE_EVERY_S = 20


class Sampler:
    """`show` is called after each second. Not `calm`: a deploy, in which memory is not read in detail."""

    def __init__(
        self, log: RunLog, gateways: GatewayGroup, fleets: FleetGroup, show: Callable[[], None], *, calm: bool
    ) -> None:
        self._log = log
        self._gateways = gateways
        self._fleets = fleets
        self._show = show
        self._calm = calm
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sample each second from now on."""
        self._task = asyncio.create_task(self._sample(), name="sampler")

    async def stop(self) -> None:
        """Sample no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def read_processes(self, *, whole: bool) -> None:
        """Read all processes now; `whole`: their memory in detail."""
        for line in await asyncio.to_thread(self._processes, whole):
            self._log.record(line)

    async def _sample(self) -> None:
        began_s = time.monotonic()
        for second in itertools.count(1):
            await asyncio.sleep(began_s + second - time.monotonic())
            await self.read_processes(whole=self._calm and second % WHOLE_EVERY_S == 0)
            self._log.record(machine.kernel())
            self._log.flush()
            self._show()

    def _processes(self, whole: bool) -> list[ProcessReading]:
        gateways, fleets = self._gateways.processes, self._fleets.processes
        found = [machine.process(gateway.name, "gateway", gateway.pid, whole=whole) for gateway in gateways]
        found += [machine.process(fleet.part.name, "fleet", fleet.pid, whole=whole) for fleet in fleets]
        found.append(machine.own("conductor", whole=whole))
        return [process for process in found if process is not None]
