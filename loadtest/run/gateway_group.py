"""The gateways of a run on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from loadtest.processes.gateways import GatewayProcess, gateway_name

STARTS_AT_ONCE = 4


class GatewayGroup:
    """`on_started` is called with each gateway that runs."""

    def __init__(self, on_started: Callable[[GatewayProcess], None]) -> None:
        self.processes: list[GatewayProcess] = []
        self._on_started = on_started

    async def start(self, count: int, share: int, out: Path, secret_file: Path, settings: Mapping[str, object]) -> None:
        """Start `count` gateways of this machine's share. Raises GatewayError when one of them does not start."""
        turns = asyncio.Semaphore(STARTS_AT_ONCE)
        self.processes = [GatewayProcess(*gateway_name(share, out, number)) for number in range(1, count + 1)]

        async def start(gateway: GatewayProcess) -> None:
            async with turns:
                await gateway.start(secret_file, settings)
            self._on_started(gateway)

        started = await asyncio.gather(*map(start, self.processes), return_exceptions=True)
        for failed in started:
            if failed is not None:
                raise failed

    def add(self, gateway: GatewayProcess) -> None:
        """A gateway that a deploy started."""
        self.processes.append(gateway)
        self._on_started(gateway)

    def urls(self) -> list[str]:
        """Where devices connect to the gateways that still run."""
        return [gateway.url for gateway in self.processes if not gateway.ended.is_set()]

    def folders(self) -> list[Path]:
        """The data folders."""
        return [gateway.folder for gateway in self.processes]

    async def stop(self) -> None:
        """SIGTERM all, and wait for their end."""
        await asyncio.gather(*(gateway.stop() for gateway in self.processes), return_exceptions=True)

    async def kill(self) -> None:
        """SIGKILL all."""
        await asyncio.gather(*(gateway.kill() for gateway in self.processes), return_exceptions=True)
