"""The composition root: what is started in which order, and stopped in the reverse.

Start: settings → telemetry → data folder → stores → pipeline → connections → listeners → ready.
Stop, each step bounded: readiness off → no new connections → drain the connections, paced → flush the batches,
spool what is left → close stores → release the folder. Nothing acknowledged is lost at any point, a `kill -9` included:
an ack is sent only after the event is on disk.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.adapters.clock import SystemClock
from gateway.adapters.data_folder import DataFolder
from gateway.adapters.dead_letters import DeadLetterFile
from gateway.adapters.machine import SpareFile, make_room_for_files, memory, raise_file_limit
from gateway.adapters.mounts import loss_of
from gateway.adapters.receipt_files import ReceiptFiles
from gateway.adapters.recording_file import RecordingFile
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.layout import INDEX_FOLDER, SPOOL_NAME
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.api.application import build_operations, build_public
from gateway.api.context import Api
from gateway.api.http_protocol import HttpListener, HttpMetrics
from gateway.api.http_rates import HttpRates
from gateway.app.location_parts import Index, limits, opensearch_index, overflow_stream
from gateway.app.parts import (
    Bound,
    bind,
    connections_maximum,
    consistent,
    emf_reporter,
    http_maximum,
    index_readers,
    key_refresh,
    listenings,
    shared_key,
    target_health,
)
from gateway.connections.admission import admission
from gateway.connections.connection import Session
from gateway.connections.door import Door
from gateway.connections.housekeeping import Housekeeping
from gateway.connections.hub import Hub
from gateway.connections.metrics import ConnectionMetrics
from gateway.connections.securing import accepting
from gateway.drain.drainer import Drainer
from gateway.drain.leaving import Origin
from gateway.drain.metrics import DrainMetrics
from gateway.drain.ports import TargetHealth
from gateway.drain.target_health import TargetHealthWatch
from gateway.errors import IllegalTransitionError, TaskFailedError
from gateway.identity.auth import Authenticator
from gateway.identity.key_files import KEY_NAME, readable_by_others
from gateway.identity.key_refresh import KeyRefresh
from gateway.locations.outcome import Durability
from gateway.locations.pipeline import LocationPipeline
from gateway.locations.search import SearchService
from gateway.locations.times import EventTimes
from gateway.protocol.session import DeviceSession
from gateway.recording.session import RecordedSession
from gateway.settings.model import Settings
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import new_registry
from gateway.wire.handshake import V1
from gateway.wire.listener import Address, listen, tls_context

log = Log("app")

FLUSH_TIMEOUT_S = 5.0
HTTP_SHUTDOWN_S = 1.0
# asyncio hands a signal over between two callbacks only; this is how long the stores may take to close after that.
CLOSE_TIMEOUT_S = 5.0


class Gateway:
    """One process's parts. `start`, then `run` until something ends it, then `stop`.

    `record` is a file that is made for a recording of what arrives; None: nothing is recorded.
    """

    def __init__(self, settings: Settings, record: Path | None = None) -> None:
        self.settings = settings
        self._record = record
        self._recording: RecordingFile | None = None
        self.addresses: dict[str, list[str]] = {"public": [], "operations": []}
        self._clock = SystemClock()
        self._chance = random.Random()  # noqa: S311 - jitter, not keys
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._runners: list[web.AppRunner] = []
        self._ready = False
        self._keys: KeyRefresh | None = None
        self._spare = SpareFile()
        self._target_health: TargetHealth | None = None
        self._watch: TargetHealthWatch | None = None

    async def start(self) -> None:
        """Start everything; on failure what was started is stopped again. Raises HeiwaError naming the cause."""
        bound = self._bind()
        self._folder = DataFolder.open(self.settings.data.folder)
        _warn_of_loss(self._folder.path)
        try:
            if self._record is not None:
                self._recording = RecordingFile(self._record, self._clock)
            await self._start_stores()
            self._start_connections()
            await self._listen(bound)
        except BaseException:
            if self._recording is not None:
                self._recording.discard()
            for one in bound:
                one.socket.close()
            self._spare.close()
            self._folder.close()
            raise
        self._housekeeping.settle()
        self._ready = True

    async def run(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set; raises TaskFailedError when a part of the gateway ended by itself."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        watched: list[asyncio.Future[Any]] = [stopping, *self._tasks, self.pipeline.failed]
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in watched[1:]:
                if task.done():
                    name = task.get_name() if isinstance(task, asyncio.Task) else "locations"
                    raise TaskFailedError(f"the task {name!r} ended") from task.exception()
        finally:
            stopping.cancel()

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
        """Close listeners and stores; what the pipeline holds is stored first."""
        for server in self._servers:
            server.close()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners), return_exceptions=True)
        tasks = [*self._tasks, *self.door.securing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.pipeline.stop(FLUSH_TIMEOUT_S)
        await self._index.close()
        if self._stream is not None:
            await self._stream.close()
        await self._spool.close()
        if self._target_health is not None:
            await self._target_health.close()
        if self._recording is not None:
            await asyncio.to_thread(self._recording.close)
        self._spare.close()
        self._folder.close()

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

    def _bind(self) -> list[Bound]:
        """Bound before anything else: a taken port is the commonest failure, and nothing is left behind by it."""
        consistent(self.settings)
        shared_key(self.settings)
        bound: list[Bound] = []
        try:
            for listening in listenings(self.settings):
                bound.append(bind(listening, bound))
        except BaseException:
            for one in bound:
                one.socket.close()
            raise
        return bound

    async def _start_stores(self) -> None:
        settings = self.settings.locations
        path = self._folder.path
        times = EventTimes(self._clock, settings.retention_days, lambda: self._index.newest_ms)
        self._index = self._make_index(times)
        self._stream = overflow_stream(settings, self._clock, self._chance)
        self._spool = SQLiteSpool(path / SPOOL_NAME, settings.spool_max_bytes)
        await self._index.open()
        await self._spool.open()
        dead_letters = DeadLetterFile(path / "dead-letters.jsonl", self._clock)
        self.pipeline = LocationPipeline(
            self._index,
            self._spool,
            dead_letters,
            self._clock,
            self._chance,
            stream=self._stream,
            ack_min=Durability(settings.ack_min),
            limits=limits(settings),
            times=times,
        )
        await self.pipeline.start()

    def _make_index(self, times: EventTimes) -> Index:
        settings = self.settings.locations
        if settings.opensearch_url:
            return opensearch_index(self.settings, self._clock, self._chance)
        return SQLiteLocationIndex(
            self._folder.path / INDEX_FOLDER,
            self._clock,
            settings.retention_days,
            settings.index_max_bytes,
            lambda: times.offset_ms,
            settings.account_max_bytes,
            index_readers(self.settings, raise_file_limit()),
        )

    def _start_connections(self) -> None:
        settings = self.settings
        limit = raise_file_limit()
        maximum, http = connections_maximum(settings, limit), http_maximum(settings, limit)
        make_room_for_files(maximum + http + settings.connections.file_reserve)
        authenticator = Authenticator(settings.auth, self._folder.path, self._clock)
        _warn_of_open_key(settings, self._folder.path)
        self._keys = key_refresh(settings.auth, authenticator, self._folder.path, self._clock, self._chance)
        if self._keys is not None:
            self._keys.load()
            self._spawn("key set", self._keys.run())
        session: Session = DeviceSession(self.pipeline, authenticator)
        if self._recording is not None:
            session = RecordedSession(session, self._recording)
        sessions = {V1: session}
        counts = admission(settings.connections, maximum, http, self._clock.monotonic_s())
        self.hub = Hub(settings, self._clock, counts, self._chance)
        self.door = Door(self.hub, settings, authenticator, sessions)
        self._housekeeping = Housekeeping(self.hub, self._memory_share)
        self._spawn("heartbeat", self.hub.run())
        self._spawn("housekeeping", self._housekeeping.run())
        self._start_drain()
        self._api = self._make_api(authenticator)
        if settings.telemetry.emf:
            reporter = emf_reporter(settings.telemetry, self._api.registry, self._clock)
            self._spawn("emf", reporter.run())

    def _make_api(self, authenticator: Authenticator) -> Api:
        limits = self.settings.connections
        rates = HttpRates(
            limits.messages_per_s, limits.messages_burst, limits.bytes_per_s, float(limits.max_message_bytes)
        )
        self._http_metrics = HttpMetrics(rates)
        return Api(
            tokens=authenticator,
            devices=self.hub.registry,
            pipeline=self.pipeline,
            search=SearchService(self._index),
            readiness=self.readiness,
            registry=new_registry(
                ConnectionMetrics(self.door, self._housekeeping),
                self._http_metrics,
                self.pipeline,
                self._index,
                *([] if self._stream is None else [self._stream]),
                DrainMetrics(self.drainer, self._watch),
                *([] if self._keys is None else [self._keys]),
            ),
            drainer=self.drainer,
            rates=rates,
            watch=self._watch,
            clock=self._clock,
            max_message_bytes=limits.max_message_bytes,
        )

    def _memory_share(self) -> float:
        with self._spare:
            return memory(self.settings.connections.memory_limit_bytes).share

    def _start_drain(self) -> None:
        settings = self.settings.drain
        self.drainer = Drainer(settings, self.door, self._clock, self._chance, ReceiptFiles(self._folder.path))
        self._target_health = target_health(self.settings)
        if self._target_health is None:
            self.drainer.settle()
        else:
            self._watch = TargetHealthWatch(
                self._target_health, self.drainer, self.hub, self._chance, self.settings.drain.speed
            )
            self._spawn("target health", self._watch.run())
        self._spawn("drain", self.drainer.run())
        self._spawn("drain receipts", self.drainer.keeper.run())

    async def _listen(self, sockets: list[Bound]) -> None:
        accept = accepting(self.door, tls_context(self.settings.listen))
        most = self.settings.listen.operations_maximum or self.settings.connections.file_reserve // 4
        public = await self._http("public", build_public(self._api))
        operations = await self._http("operations", build_operations(self._api), most)
        self.door.http = public
        for listening, bound in sockets:
            factory = operations if listening.name == "operations" else accept
            server = await listen(bound, factory, listening.options)
            self._servers.append(server)
            host, port = bound.getsockname()[:2]
            self.addresses[listening.name].append(str(Address(host, port)))

    async def _http(self, name: str, application: web.Application, maximum: int = 0) -> HttpListener:
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=HTTP_SHUTDOWN_S)
        await runner.setup()
        self._runners.append(runner)
        server = runner.server
        if server is None:
            raise TaskFailedError("the HTTP server was not made")
        listener = HttpListener(name, server, self._clock, maximum)
        self._http_metrics.listeners.append(listener)
        return listener

    def _spawn(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(coroutine, name=name))


def _warn_of_loss(folder: Path) -> None:
    lost = loss_of(folder, os.environ)
    if lost is not None:
        log.warning("data_not_kept", folder=str(folder), lost_with=lost.lost_with, mend=lost.mend)


def _warn_of_open_key(settings: Settings, folder: Path) -> None:
    """A secret that others can read lets them make tokens; it may be meant, as with a group of a container."""
    auth = settings.auth
    path = Path(auth.secret_file) if auth.secret_file else folder / KEY_NAME
    if not (auth.secret or auth.public_key_file or auth.jwks_url) and readable_by_others(path):
        log.warning("key_readable_by_others", path=str(path))
