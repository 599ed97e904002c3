"""Starts the tasks of a deploy: gateways at addresses of their own, known to the stand-in's ECS."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import aiohttp

from loadtest.cloud import ecs_records
from loadtest.cloud.ecs_records import Ecs
from loadtest.cloud.elbv2 import TargetAddress
from loadtest.cloud.endpoints import Endpoints
from loadtest.cloud.tasks import GatewayTask
from loadtest.processes.container import GatewayContainer
from loadtest.processes.gateways import GatewayProcess
from loadtest.scenario.deploy import DeploySection

SERVICE = "gateway"
STARTS_AT_ONCE = 4
# connections.close_timeout_s at full speed, and the minimum that a busy machine needs.
CLOSE_TIMEOUT_S = 5.0
MIN_CLOSE_TIMEOUT_S = 0.25
# Each process that deploys has a part of loopback of its own, so that two of them do not meet.
_NET = 64 + os.getpid() % 128


class Start(NamedTuple):
    """How gateways are started. `name(n)` is the name and the folder of the n-th one, `folder` is that of the run."""

    folder: Path
    name: Callable[[int], tuple[str, Path]]
    secret_file: Path
    secret: str
    account: str
    settings: Mapping[str, object]


class TaskLauncher:
    """`front_settings` are what gateways behind the load balancer need; `started` is called with each that runs."""

    def __init__(
        self,
        options: DeploySection,
        start: Start,
        ecs: Ecs,
        endpoints: Endpoints,
        front_settings: Mapping[str, object],
        started: Callable[[GatewayProcess], None],
    ) -> None:
        self.port = _free_port()
        self._options = options
        self._start = start
        self._ecs = ecs
        self._endpoints = endpoints
        self._front_settings = front_settings
        self._started = started
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)
        self._tasks = 0
        # Of the task definition that tasks are started with.
        self.revision = 1
        self._addresses = 0

    def addresses(self, count: int) -> list[TargetAddress]:
        """New addresses. Each task has its own, as with the network mode awsvpc: all listen on the same port."""
        first = self._addresses
        self._addresses += count
        numbers = range(first, first + count)
        return [(f"127.{_NET}.{number // 250}.{1 + number % 250}", self.port) for number in numbers]

    async def launch(self, addresses: Iterable[TargetAddress], session: aiohttp.ClientSession) -> list[GatewayTask]:
        """Start a task at each address, not registered yet. Raises GatewayError."""
        tasks = [self._task(address, session) for address in addresses]
        started = await asyncio.gather(*map(self._run, tasks), return_exceptions=True)
        for failed in started:
            if failed is not None:
                raise failed
        return tasks

    def _task(self, address: TargetAddress, session: aiohttp.ClientSession) -> GatewayTask:
        self._tasks += 1
        name, folder = self._start.name(self._tasks)
        options = self._options
        gateway = GatewayProcess(name, folder)
        if options.runtime == "podman":
            gateway = GatewayContainer(name, folder, options.image, options.memory_mib)
        return GatewayTask(gateway, address, options.health, session)

    async def _run(self, task: GatewayTask) -> None:
        options = self._options
        host, port = task.address
        self._ecs.add_task(
            ecs_records.EcsTask(
                task.name,
                SERVICE,
                host,
                container_port=port,
                stop_timeout_s=options.stop_timeout_s,
                revision=self.revision,
            )
        )
        settings = {
            "connections.close_timeout_s": max(MIN_CLOSE_TIMEOUT_S, CLOSE_TIMEOUT_S / options.speed),
            **self._front_settings,
            **self._start.settings,
            **(options.new_settings if self.revision > 1 else {}),
            "drain.enabled": options.drain,
            "drain.follow_weights": options.follow,
            "drain.speed": options.speed,
            "drain.stop_timeout_s": options.stop_timeout_s,
        }
        environment = self._endpoints.environment(task.name, "container")
        async with self._turns:
            await task.start(self._start.secret_file, settings, environment)
        self._started(task.gateway)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((f"127.{_NET}.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
