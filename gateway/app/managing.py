"""A process that manages workflows and holds no device: the roles `manager` and `rebalancer` without `gateway`.

Start: socket → data folder → keys → broker → workflows → operations listener → ready. Stop, each step bounded:
readiness off → stop listening → give up the lease, so that others go on at once → leave the broker.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.adapters.clock import SystemClock
from gateway.adapters.data_folder import DataFolder
from gateway.adapters.machine import memory
from gateway.api.application import build_health
from gateway.api.context import Api
from gateway.api.http_protocol import HttpListener, HttpMetrics
from gateway.api.http_rates import HttpRates
from gateway.app.listening import Bound, bind, listenings
from gateway.app.parts import consistent, emf_reporter, key_refresh
from gateway.app.peering import courier, gateway_name, peering
from gateway.app.roles import Roles
from gateway.app.tasks import Tasks
from gateway.app.workflow_parts import WorkflowParts
from gateway.channels.fanout import Fanout
from gateway.channels.local import LocalCourier
from gateway.connections.admission import admission
from gateway.connections.housekeeping import Housekeeping
from gateway.connections.hub import Hub
from gateway.connections.metrics import ProcessMetrics
from gateway.errors import TaskFailedError
from gateway.identity.auth import Authenticator
from gateway.identity.key_refresh import KeyRefresh
from gateway.protocol.channel_messages import ChannelMessages
from gateway.protocol.session import command_message
from gateway.settings.model import Settings
from gateway.telemetry.metrics import new_registry
from gateway.telemetry.names import MANAGER
from gateway.wire.listener import Address, listen

HTTP_SHUTDOWN_S = 1.0
HTTP_MAXIMUM = 16
# Of what the routes of a gateway need; none of those that are served here asks for it.
_ABSENT: Any = None


class Managing:
    """`start`, then `run` until something ends it, then `stop`."""

    def __init__(self, settings: Settings, roles: Roles) -> None:
        self.settings = settings
        self.roles = roles
        self.addresses: dict[str, list[str]] = {"operations": []}
        self._clock = SystemClock()
        self._chance = random.Random()  # noqa: S311 - jitter, not keys
        self._tasks = Tasks()
        self._started = AsyncExitStack()
        self._keys: KeyRefresh | None = None
        self._ready = False

    async def start(self) -> None:
        """Start everything; on failure what was started is stopped again. Raises HeiwaError naming the cause."""
        async with AsyncExitStack() as stack:
            bound = self._bind(stack)
            folder = DataFolder.open(self.settings.data.folder)
            stack.callback(folder.close)
            stack.push_async_callback(self._tasks.close)
            authenticator = self._start_keys(folder.path)
            workflows = await self._start_workflows(folder.path, stack)
            await self._listen(bound, self._api(authenticator, workflows), stack)
            self._started = stack.pop_all()
        self._housekeeping.settle()
        self._ready = True

    async def run(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set; raises TaskFailedError when a part ended by itself."""
        await self._tasks.watch(stop)

    async def stop(self) -> None:
        """Leave calmly."""
        self._ready = False
        await self.close()

    def drain_ordered(self) -> None:
        """SIGUSR1: there are no connections to send away."""

    async def close(self) -> None:
        """End everything in the reverse order of the start. Harmless again."""
        await self._started.aclose()

    @property
    def connections(self) -> int:
        """Of devices."""
        return 0

    def _bind(self, stack: AsyncExitStack) -> list[Bound]:
        consistent(self.settings)
        bound: list[Bound] = []
        for listening in listenings(self.settings):
            if listening.name == "operations":
                bound.append(bind(listening, bound))
                stack.callback(bound[-1].socket.close)
        return bound

    def _start_keys(self, folder: Path) -> Authenticator:
        authenticator = Authenticator(self.settings.auth, folder, self._clock)
        self._keys = key_refresh(self.settings.auth, authenticator, folder, self._clock, self._chance)
        if self._keys is not None:
            self._keys.load()
            self._tasks.spawn("key set", self._keys.run())
        return authenticator

    async def _start_workflows(self, folder: Path, stack: AsyncExitStack) -> WorkflowParts:
        """Its hub never holds a connection; it is what speaks to gateways through the broker."""
        settings = self.settings
        hub = Hub(settings, self._clock, admission(settings.connections, 1, 1, 0.0), self._chance)
        hub.gateway = gateway_name()
        self._housekeeping = Housekeeping(hub, lambda: memory(settings.connections.memory_limit_bytes).share)
        self._metrics = ProcessMetrics(hub, self._housekeeping)
        local = LocalCourier(hub.registry, self._clock, self._chance, 1, command_message)
        self._peering = neighbours = peering(settings.broker, hub, local, self._chance)
        if neighbours is not None:
            neighbours.start(self._tasks, stack)
        couriers = courier(hub, local, neighbours, self._chance)
        stack.push_async_callback(couriers.close)
        channels = None if neighbours is None else neighbours.channels
        fanout = Fanout(hub.holders, ChannelMessages(), self._clock, channels)
        stack.push_async_callback(fanout.close)
        workflows = WorkflowParts(
            settings.workflows,
            settings.workflow_accounts,
            folder,
            self._clock,
            self._chance,
            couriers,
            fanout,
            # Gateways listen for jobs.
            settings.workflows.jobs_url.rstrip("/"),
            roles=self.roles,
        )
        stack.push_async_callback(workflows.close)
        await workflows.open_if_used()
        self._tasks.spawn("heartbeat", hub.run())
        self._tasks.spawn("housekeeping", self._housekeeping.run())
        self._tasks.spawn("channels", fanout.run())
        self._tasks.spawn("workflows", workflows.run())
        return workflows

    def _readiness(self) -> list[tuple[str, bool, str]]:
        keys = [] if self._keys is None else [self._keys.readiness()]
        return [("started", self._ready, "" if self._ready else "starting or stopping"), *keys]

    def _api(self, authenticator: Authenticator, workflows: WorkflowParts) -> Api:
        limits = self.settings.connections
        rates = HttpRates(
            limits.messages_per_s, limits.messages_burst, limits.bytes_per_s, float(limits.max_message_bytes)
        )
        self._http_metrics = HttpMetrics(rates)
        registry = new_registry(
            self._metrics,
            self._http_metrics,
            *([] if self._peering is None else [self._peering.metrics]),
            workflows.metrics,
        )
        if self.settings.telemetry.emf:
            reporter = emf_reporter(self.settings.telemetry, registry, self._clock, MANAGER)
            self._tasks.spawn("emf", reporter.run())
        return Api(
            tokens=authenticator,
            devices=_ABSENT,
            past=_ABSENT,
            pipeline=_ABSENT,
            search=_ABSENT,
            courier=_ABSENT,
            moves=_ABSENT,
            readiness=self._readiness,
            registry=registry,
            clock=self._clock,
            drainer=_ABSENT,
            rates=rates,
            workflows=workflows,
        )

    async def _listen(self, sockets: list[Bound], api: Api, stack: AsyncExitStack) -> None:
        runner = web.AppRunner(
            build_health(api), access_log=None, handle_signals=False, shutdown_timeout=HTTP_SHUTDOWN_S
        )
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        if runner.server is None:
            raise TaskFailedError("the HTTP server was not made")
        maximum = self.settings.listen.operations_maximum or HTTP_MAXIMUM
        listener = HttpListener("operations", runner.server, self._clock, maximum)
        self._http_metrics.listeners.append(listener)
        for listening, bound in sockets:
            server = await listen(bound, listener, listening.options)
            stack.callback(server.close)
            host, port = bound.getsockname()[:2]
            self.addresses["operations"].append(str(Address(host, port)))
