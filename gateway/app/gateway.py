"""The role `gateway`: what is started in which order, and ended in the reverse.

Start: sockets → data folder → stores and pipeline → keys → connections → drain → HTTP → listening → ready.
Stop, each step bounded: readiness off → no new connections → drain the connections, paced → stop listening → end the
tasks → flush the batches, spool what is left → close the stores → release the folder. Nothing acknowledged is lost at
any point, a `kill -9` included: an ack is sent only after the event is on disk.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from aiohttp import web

from gateway.adapters.clock import SystemClock
from gateway.adapters.data_folder import DataFolder
from gateway.adapters.machine import SpareFile, make_room_for_files, memory, raise_file_limit
from gateway.adapters.mounts import loss_of
from gateway.adapters.receipt_files import ReceiptFiles
from gateway.adapters.recording_file import RecordingFile
from gateway.api.application import build_jobs, build_operations, build_public
from gateway.api.context import Api
from gateway.api.http_protocol import HttpListener, HttpMetrics
from gateway.api.http_rates import HttpRates
from gateway.app.listening import Bound, bind, jobs_url, listenings
from gateway.app.parts import (
    connections_maximum,
    consistent,
    deployments,
    emf_reporter,
    http_maximum,
    key_refresh,
    shared_key,
    target_health,
)
from gateway.app.peering import courier, devices, gateway_name, peering
from gateway.app.remembering import drain_under_way, open_history, past, start_recorder
from gateway.app.roles import Roles
from gateway.app.stores import Stores, open_stores
from gateway.app.tasks import Tasks
from gateway.app.workflow_parts import WorkflowParts
from gateway.channels.device_channel import DeviceChannel
from gateway.channels.fanout import Fanout
from gateway.channels.local import LocalCourier
from gateway.channels.senders import Senders
from gateway.channels.subscribing import Subscribing
from gateway.connections.admission import admission
from gateway.connections.connection import Session
from gateway.connections.door import Door
from gateway.connections.housekeeping import Housekeeping
from gateway.connections.hub import Hub
from gateway.connections.metrics import ConnectionMetrics
from gateway.connections.securing import accepting
from gateway.drain.channel import DrainChannel
from gateway.drain.drainer import Drainer
from gateway.drain.leaving import Origin
from gateway.drain.metrics import DrainMetrics
from gateway.drain.target_health import TargetHealthWatch
from gateway.drain.weights_watch import WeightsWatch
from gateway.errors import IllegalTransitionError, TaskFailedError
from gateway.identity.auth import Authenticator
from gateway.identity.key_files import KEY_NAME, readable_by_others
from gateway.identity.key_refresh import KeyRefresh
from gateway.locations.search import SearchService
from gateway.protocol.channel_messages import ChannelMessages
from gateway.protocol.session import DeviceSession, command_message
from gateway.recording.session import RecordedSession
from gateway.settings.model import Settings
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import new_registry
from gateway.telemetry.names import GATEWAY
from gateway.wire.handshake import V1
from gateway.wire.listener import Address, listen, tls_context

log = Log("app")

HTTP_SHUTDOWN_S = 1.0


class Gateway:
    """The role `gateway`: `start`, then `run` until something ends it, then `stop`.

    `record` is a file that is made for a recording of what arrives; None: nothing is recorded.
    """

    def __init__(self, settings: Settings, record: Path | None = None, roles: Roles = Roles()) -> None:  # noqa: B008
        self.settings = settings
        self._roles = roles
        self._record = record
        self.addresses: dict[str, list[str]] = {"public": [], "operations": [], "jobs": []}
        self._clock = SystemClock()
        self._chance = random.Random()  # noqa: S311 - jitter, not keys
        self._name = gateway_name()
        self._tasks = Tasks()
        self._started = AsyncExitStack()
        self._ready = False
        self._recording: RecordingFile | None = None
        self._keys: KeyRefresh | None = None
        self._spare = SpareFile()
        self._watch: TargetHealthWatch | None = None
        self._weights: WeightsWatch | None = None

    async def start(self) -> None:
        """Start everything; on failure what was started is stopped again. Raises HeiwaError naming the cause."""
        async with AsyncExitStack() as stack:
            stack.callback(self._spare.close)
            bound = self._bind(stack)
            folder = DataFolder.open(self.settings.data.folder)
            stack.callback(folder.close)
            _warn_of_loss(self.settings, folder.path)
            self._start_recording(stack)
            stores = await open_stores(self.settings, folder.path, self._clock, self._chance, stack)
            self.pipeline = stores.pipeline
            self._history = await open_history(self.settings, folder.path, self._name, self._clock, stack)
            stack.push_async_callback(self._tasks.close)
            authenticator = self._start_keys(folder.path)
            search = SearchService(stores.searched)
            self._start_connections(authenticator, search, stack)
            self._start_drain(folder.path, stack)
            workflows = await self._start_workflows(folder.path, jobs_url(self.settings, bound), stack)
            api = self._make_api(stores, search, authenticator, workflows)
            if self.settings.telemetry.emf:
                reporter = emf_reporter(self.settings.telemetry, api.registry, self._clock, GATEWAY)
                self._tasks.spawn("emf", reporter.run())
            await self._listen(bound, api, stack)
            self._started = stack.pop_all()
        self._housekeeping.settle()
        self._ready = True

    async def run(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set; raises TaskFailedError when a part of the gateway ended by itself."""
        await self._tasks.watch(stop, self.pipeline.failed)

    async def stop(self) -> None:
        """Leave calmly: everyone is sent away, everything accepted is stored. Cancelled: what is left is cut."""
        try:
            sent, cut = await self.drainer.terminate(self._watch.registered if self._watch is not None else None)
            log.info("connections_closed", sent_away=sent, cut=cut)
        except Exception as error:
            # What was taken in is stored all the same.
            log.error("stop_failed", exc_info=error)  # noqa: TRY400
        await self.close()

    def drain_ordered(self) -> None:
        """SIGUSR1; ignored until there is something to drain."""
        if not self._ready:
            return
        try:
            self.drainer.order(Origin.SIGUSR1)
        except IllegalTransitionError as error:
            log.warning("signal_ignored", message=str(error))

    async def close(self) -> None:
        """End everything in the reverse order of the start; what the pipeline holds is stored. Harmless again."""
        await self._started.aclose()

    @property
    def connections(self) -> int:
        """Of devices and clients."""
        return self.hub.registry.total

    def readiness(self) -> list[tuple[str, bool, str]]:
        """Name, whether it is well, and why not."""
        leaving = self.drainer.refusing
        return [
            ("started", self._ready, "" if self._ready else "starting"),
            ("serving", not leaving, self.drainer.state.value if leaving else ""),
            # One wrong clock must not take every target out of service.
            ("clock", True, self.pipeline.times.problem()),
            *([] if self._keys is None else [self._keys.readiness()]),
        ]

    # The steps of the start; each gives `stack` what undoes it

    def _bind(self, stack: AsyncExitStack) -> list[Bound]:
        """Before anything else: a taken port is the commonest failure, and nothing is left behind by it."""
        consistent(self.settings)
        shared_key(self.settings)
        bound: list[Bound] = []
        for listening in listenings(self.settings):
            bound.append(bind(listening, bound))
            stack.callback(bound[-1].socket.close)
        return bound

    def _start_recording(self, stack: AsyncExitStack) -> None:
        if self._record is not None:
            self._recording = recording = RecordingFile(self._record, self._clock)
            # A start that fails leaves no file behind.
            stack.push_async_callback(lambda: asyncio.to_thread(recording.close if self._ready else recording.discard))

    def _start_keys(self, folder: Path) -> Authenticator:
        authenticator = Authenticator(self.settings.auth, folder, self._clock)
        _warn_of_open_key(self.settings, folder)
        self._keys = key_refresh(self.settings.auth, authenticator, folder, self._clock, self._chance)
        if self._keys is not None:
            self._keys.load()
            self._tasks.spawn("key set", self._keys.run())
        return authenticator

    def _start_connections(self, authenticator: Authenticator, search: SearchService, stack: AsyncExitStack) -> None:
        settings = self.settings
        limit = raise_file_limit()
        maximum, http = connections_maximum(settings, limit), http_maximum(settings, limit)
        make_room_for_files(maximum + http + settings.connections.file_reserve)
        counts = admission(settings.connections, maximum, http, self._clock.monotonic_s())
        self.hub = Hub(settings, self._clock, counts, self._chance)
        self.hub.gateway = self._name
        self._recorder = start_recorder(self.hub, self._history, self._tasks, stack)
        per_device = settings.commands.in_flight_per_device
        local = LocalCourier(self.hub.registry, self._clock, self._chance, per_device, command_message)
        self._peering = peering(settings.broker, self.hub, local, self._chance)
        if self._peering is not None:
            self._peering.start(self._tasks, stack)
        self._courier = courier(self.hub, local, self._peering, self._chance)
        stack.push_async_callback(self._courier.close)
        words = ChannelMessages()
        neighbours = None if self._peering is None else self._peering.channels
        self.fanout = Fanout(self.hub.holders, words, self._clock, neighbours)
        stack.push_async_callback(self.fanout.close)
        self._devices = DeviceChannel(self.hub.registry, search, self.fanout, neighbours)
        if self._peering is not None:
            self._peering.join_channels(self.fanout, self._devices)
        subscribing = Subscribing(
            self.fanout, words, settings.channels.maximum_per_connection, lambda: counts.memory_low
        )
        senders = Senders(self._courier, words, settings.commands.in_flight_per_sender)
        stack.push_async_callback(senders.close)
        session: Session = DeviceSession(self.pipeline, local, subscribing, self._devices, senders, authenticator)
        if self._recording is not None:
            session = RecordedSession(session, self._recording)
        self.door = Door(self.hub, settings, authenticator, {V1: session})
        stack.push_async_callback(self.door.close)
        self._housekeeping = Housekeeping(self.hub, self._memory_share)
        self._tasks.spawn("heartbeat", self.hub.run())
        self._tasks.spawn("housekeeping", self._housekeeping.run())
        self._tasks.spawn("channels", self.fanout.run())

    def _memory_share(self) -> float:
        with self._spare:
            return memory(self.settings.connections.memory_limit_bytes).share

    def _start_drain(self, folder: Path, stack: AsyncExitStack) -> None:
        settings = self.settings.drain
        self.drainer = Drainer(settings, self.door, self._clock, self._chance, ReceiptFiles(folder))
        self._recorder.drain = partial(drain_under_way, self.drainer)
        asked = target_health(self.settings)
        if asked is None:
            self.drainer.settle()
        else:
            stack.push_async_callback(asked.close)
            self._watch = TargetHealthWatch(asked, self.drainer, self.hub, self._chance, settings.speed)
            self._tasks.spawn("target health", self._watch.run())
            self._start_weights(self._watch, stack)
        self._tasks.spawn("drain", self.drainer.run())
        self._tasks.spawn("drain receipts", self.drainer.keeper.run())
        channel = DrainChannel(self.drainer, self._watch, self.fanout, self.hub.gateway, self._clock)
        self._tasks.spawn("drain channel", channel.run())

    def _start_weights(self, watch: TargetHealthWatch, stack: AsyncExitStack) -> None:
        asked = deployments(self.settings)
        if asked is None:
            return
        stack.push_async_callback(asked.close)
        speed = self.settings.drain.speed
        self._weights = WeightsWatch(asked, self.drainer, watch.listed_in, self._chance, speed)
        self._tasks.spawn("weights", self._weights.run())

    async def _start_workflows(self, folder: Path, jobs: str, stack: AsyncExitStack) -> WorkflowParts:
        workflows = WorkflowParts(
            self.settings.workflows,
            self.settings.workflow_accounts,
            folder,
            self._clock,
            self._chance,
            self._courier,
            self.fanout,
            jobs,
            roles=self._roles,
        )
        stack.push_async_callback(workflows.close)
        await workflows.open_if_used()
        self._tasks.spawn("workflows", workflows.run())
        return workflows

    def _make_api(
        self, stores: Stores, search: SearchService, authenticator: Authenticator, workflows: WorkflowParts
    ) -> Api:
        limits = self.settings.connections
        rates = HttpRates(
            limits.messages_per_s, limits.messages_burst, limits.bytes_per_s, float(limits.max_message_bytes)
        )
        self._http_metrics = HttpMetrics(rates)
        return Api(
            tokens=authenticator,
            devices=devices(self.hub, self._peering),
            past=past(self._history, self._peering),
            pipeline=self.pipeline,
            search=search,
            courier=self._courier,
            moves=self._devices,
            readiness=self.readiness,
            registry=new_registry(
                ConnectionMetrics(self.door, self._housekeeping),
                self._http_metrics,
                self.pipeline,
                self._courier,
                self.fanout,
                self._recorder,
                stores.searched,
                *([] if stores.stream is None else [stores.stream]),
                DrainMetrics(self.drainer, self._watch, self._weights),
                *([] if self._peering is None else [self._peering.metrics]),
                *([] if self._keys is None else [self._keys]),
                workflows.metrics,
            ),
            drainer=self.drainer,
            rates=rates,
            watch=self._watch,
            workflows=workflows,
            clock=self._clock,
            max_message_bytes=limits.max_message_bytes,
        )

    async def _listen(self, sockets: list[Bound], api: Api, stack: AsyncExitStack) -> None:
        accept = accepting(self.door, tls_context(self.settings.listen))
        maximum = self.settings.listen.operations_maximum or self.settings.connections.file_reserve // 4
        self.door.http = await self._http("public", build_public(api), 0, stack)
        factories: dict[str, Callable[[], asyncio.BaseProtocol]] = {"public": accept}
        factories["operations"] = await self._http("operations", build_operations(api), maximum, stack)
        if self.settings.listen.jobs:
            factories["jobs"] = await self._http("jobs", build_jobs(api), self.settings.listen.jobs_maximum, stack)
        for listening, bound in sockets:
            factory = factories[listening.name]
            server = await listen(bound, factory, listening.options)
            stack.callback(server.close)
            host, port = bound.getsockname()[:2]
            self.addresses[listening.name].append(str(Address(host, port)))

    async def _http(self, name: str, application: web.Application, maximum: int, stack: AsyncExitStack) -> HttpListener:
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=HTTP_SHUTDOWN_S)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        server = runner.server
        if server is None:
            raise TaskFailedError("the HTTP server was not made")
        listener = HttpListener(name, server, self._clock, maximum)
        self._http_metrics.listeners.append(listener)
        return listener


def _warn_of_loss(settings: Settings, folder: Path) -> None:
    lost = loss_of(folder, os.environ, shared=bool(settings.locations.opensearch_url))
    if lost is not None:
        log.warning("data_not_kept", folder=str(folder), lost_with=lost.lost_with, mend=lost.mend)


def _warn_of_open_key(settings: Settings, folder: Path) -> None:
    """A secret that others can read lets them make tokens; it may be meant, as with a group of a container."""
    auth = settings.auth
    path = Path(auth.secret_file) if auth.secret_file else folder / KEY_NAME
    if not (auth.secret or auth.public_key_file or auth.jwks_url) and readable_by_others(path):
        log.warning("key_readable_by_others", path=str(path))
