"""`heiwa deploy guard` beside a deployment of the stand-in cloud, and its metrics: from the logs of the gateways.

Its minutes are real ones, as those in which gateways tell their figures: a scenario with it has the speed 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from gateway.telemetry.names import ACK_P99
from loadtest.cloud.cloudwatch import CloudWatch
from loadtest.cloud.tasks import GatewayTask
from loadtest.processes import children

LOOK_S = 2.0
END_S = 10.0
_MINUTE_MS = 60_000


class MetricFeed:
    """Makes metrics of the lines of the embedded metric format, as CloudWatch does: sums a minute, or the highest."""

    def __init__(self, metrics: CloudWatch) -> None:
        self._metrics = metrics
        self._read: dict[Path, int] = {}
        self._known: dict[tuple[str, str, int], float] = {}

    def look(self, logs: Iterable[Path]) -> None:
        """Read what was written since the last time; blocks."""
        for log in logs:
            with log.open("rb") as file:
                file.seek(self._read.get(log, 0))
                whole = file.read()
            whole = whole[: whole.rfind(b"\n") + 1]
            self._read[log] = self._read.get(log, 0) + len(whole)
            for line in whole.splitlines():
                if b'"_aws"' in line:
                    self.take(json.loads(line))

    def take(self, line: Mapping[str, Any]) -> None:
        """One line of a gateway."""
        minute_s = int(line["_aws"]["Timestamp"]) // _MINUTE_MS * 60
        revision = str(line.get("revision", ""))
        for name, value in line.items():
            if isinstance(value, int | float):
                key = (name, revision, minute_s)
                before = self._known.get(key, 0.0)
                self._known[key] = max(before, value) if name == ACK_P99 else before + value
                self._metrics.put(name, revision, minute_s, self._known[key])


class GuardProcess:
    """Use once: `start`, `close`. `told` is called with each line that it prints; `tasks` gives all gateways."""

    def __init__(
        self,
        folder: Path,
        service: str,
        min_devices: int,
        metrics: CloudWatch,
        tasks: Callable[[], Iterable[GatewayTask]],
        told: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._service = service
        self._min_devices = min_devices
        self._feed = MetricFeed(metrics)
        self._tasks = tasks
        self._told = told
        self._running: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start it; it waits for the deployment."""
        command = [sys.executable, "-m", "gateway", "deploy", "guard", "--cluster", "default"]
        command += ["--service", self._service, "--min-devices", str(self._min_devices), "--for", "1m"]
        self._process = await children.start(command, self._folder / "guard.log", environment=environment)
        self._running = [
            asyncio.create_task(self._listen(self._process), name="guard"),
            asyncio.create_task(self._look(), name="metrics"),
        ]

    async def close(self) -> None:
        """End it, when it has not ended by itself."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await children.end(self._process, END_S)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._told(line.decode().strip())

    async def _look(self) -> None:
        while True:
            logs = [task.gateway.log for task in self._tasks()]
            await asyncio.to_thread(self._feed.look, logs)
            await asyncio.sleep(LOOK_S)
