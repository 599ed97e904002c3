"""A task of a stand-in cloud: a real gateway at an address of its own, with its health checks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from loadtest.cloud.balancer import Balancer
from loadtest.cloud.clock import SimulatedClock
from loadtest.cloud.elbv2 import TargetAddress
from loadtest.processes.gateways import GatewayProcess

# The health check of a target group, simulated: HealthCheckIntervalSeconds and the two thresholds.
CHECK_PERIOD_S = 5.0
THRESHOLD = 2
# HealthCheckTimeoutSeconds, but real seconds: a busy machine is no unhealthy target.
CHECK_TIMEOUT_S = 3.0
# A task must not see this machine's own AWS configuration.
FOREIGN = ("AWS_", "ECS_")


class GatewayTask:
    """One gateway; `address` is its address in the target group."""

    def __init__(
        self, gateway: GatewayProcess, address: TargetAddress, path: str, session: aiohttp.ClientSession
    ) -> None:
        self.gateway = gateway
        self.address = address
        self._path = path
        self._session = session
        self._checker: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.gateway.name

    async def start(self, secret_file: Path, settings: Mapping[str, object], environment: Mapping[str, str]) -> None:
        """Start the gateway at its address. Raises GatewayError."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        host, port = self.address
        await self.gateway.start(secret_file, settings, f"{host}:{port}", {**own, **environment})

    def check(self, balancer: Balancer, clock: SimulatedClock) -> None:
        """Check its health from now on."""
        if self._checker is None:
            self._checker = asyncio.create_task(self._check(balancer, clock), name=f"{self.name} health")

    async def close(self) -> None:
        """End the health checks."""
        if self._checker is not None:
            self._checker.cancel()
            await asyncio.gather(self._checker, return_exceptions=True)

    async def _check(self, balancer: Balancer, clock: SimulatedClock) -> None:
        last, in_a_row = False, 0
        while True:
            well = await self._well()
            in_a_row = in_a_row + 1 if well == last else 1
            last = well
            if in_a_row >= THRESHOLD:
                await balancer.judge(self.address, healthy=well)
            await clock.sleep(CHECK_PERIOD_S)

    async def _well(self) -> bool:
        if self.gateway.ended.is_set():
            return False
        host, port = self.address
        try:
            async with self._session.get(
                f"http://{host}:{port}{self._path}", timeout=aiohttp.ClientTimeout(CHECK_TIMEOUT_S)
            ) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def ask(self, path: str, token: str, within_s: float = CHECK_TIMEOUT_S) -> dict[str, Any] | None:
        """The answer of its HTTP API; None: no answer within `within_s` real seconds, or not 200."""
        try:
            async with self._session.get(
                f"{self.gateway.operations}{path}",
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(within_s),
            ) as answer:
                found: dict[str, Any] | None = await answer.json() if answer.status == 200 else None
                return found
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
