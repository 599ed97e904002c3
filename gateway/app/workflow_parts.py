"""Workflows of this process. Nothing of them is loaded until somebody asks for them, or a store has runs to move on."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gateway.channels.courier import Courier
from gateway.channels.fanout import Fanout
from gateway.clock import Clock
from gateway.errors import SettingsError, StoreError
from gateway.settings.model import Workflows
from gateway.telemetry.log import Log
from gateway.wire.uuid7 import text_of, uuid7
from gateway.workflows.manager import Manager
from gateway.workflows.ports import NodeRunner, Report
from gateway.workflows.run_log import WORKFLOW, RunLog, run_channel
from gateway.workflows.service import WorkflowService

STORE_NAME = "workflows.db"
JOBS_FOLDER = "workflow-jobs"
# The store of one process has one manager, which finds its runs again by its name; of a shared one each has its own.
_LOCAL = "local"
_RUNNERS = ("device", "process", "http")
_log = Log("workflows")


def runners_on(settings: Workflows) -> list[str]:
    """The names in `workflows.runners`. Raises SettingsError for one that is unknown."""
    names = [name.strip() for name in settings.runners.split(",") if name.strip()]
    for name in names:
        if name not in _RUNNERS:
            raise SettingsError("workflows.runners", f"{name!r} is no runner; known are {', '.join(_RUNNERS)}")
    return names


def consistent(settings: Workflows) -> None:
    """Raises SettingsError for what cannot be; nothing is loaded for what is not set."""
    runners_on(settings)
    if settings.store_url:
        from gateway.adapters.sql.engine import parse_url

        parse_url(settings.store_url)
    if settings.http_networks:
        http_networks(settings)


def http_networks(settings: Workflows) -> list[Any]:
    """Networks that requests may go to although they are not public. Raises SettingsError."""
    from gateway.adapters.http.guard import parse_networks

    try:
        return parse_networks(settings.http_networks)
    except ValueError as error:
        raise SettingsError("workflows.http_networks", str(error)) from error


class WorkflowParts:
    """`open_if_used` at the start; `service` whenever somebody asks; `run` for as long as the process lives."""

    def __init__(
        self,
        settings: Workflows,
        folder: Path,
        clock: Clock,
        chance: random.Random,
        courier: Courier,
        fanout: Fanout,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._chance = chance
        self._courier = courier
        self._fanout = fanout
        fanout.offer_log(WORKFLOW, RunLog(self.service))
        self._names = runners_on(settings)
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._opened = asyncio.Event()
        self._service: WorkflowService | None = None
        self._moving: asyncio.Task[None] | None = None

    @property
    def _used(self) -> bool:
        """Whether settings or the store say that there are workflows."""
        told = bool(self._settings.store_url) or self._names != ["device"]
        return told or (self._folder / STORE_NAME).exists()

    async def open_if_used(self) -> None:
        """Raises HeiwaError when the store cannot be opened."""
        if self._used:
            await self.service()

    async def service(self) -> WorkflowService:
        """Opens the store when it is asked for first. Raises HeiwaError; then the next caller tries again."""
        async with self._lock:
            if self._service is None:
                async with AsyncExitStack() as stack:
                    self._service = await self._open(stack)
                    self._stack = stack.pop_all()
                self._opened.set()
            return self._service

    async def _open(self, stack: AsyncExitStack) -> WorkflowService:
        from gateway.adapters import cron
        from gateway.adapters.sql.engine import parse_url
        from gateway.adapters.sql.store import SqlWorkflowStore
        from gateway.adapters.yaml_source import read_yaml
        from gateway.workflows.retention import Retention
        from gateway.workflows.scheduler import Scheduler

        url = parse_url(self._settings.store_url or f"sqlite:///{self._folder / STORE_NAME}")
        store = SqlWorkflowStore(url)
        stack.push_async_callback(store.close)
        await store.open()
        runners: dict[str, NodeRunner] = {}

        def moved(run: str, account: str) -> None:
            service.moved(run, account)
            self._fanout.hint(run_channel(account, run))

        incarnation = text_of(*uuid7(self._clock.time_ms(), self._chance.getrandbits(74)))
        self._manager = manager = Manager(
            store,
            runners,
            self._clock,
            _LOCAL if url.get_backend_name() == "sqlite" else f"{socket.gethostname()[:40]}-{incarnation[-12:]}",
            incarnation,
            cache_bytes=self._settings.cache_bytes,
            lease_s=self._settings.lease_s,
            moved=moved,
        )
        service = WorkflowService(
            store,
            runners,
            self._clock,
            self._chance,
            read_yaml,
            cron,
            manager.name,
            manager.notice,
        )
        if manager.name != _LOCAL:
            stack.push_async_callback(_retire, manager)
        for name in self._names:
            runners[name] = self._runner(name, manager.report)
            stack.push_async_callback(runners[name].close)
        await manager.start()
        self._scheduler = Scheduler(store, service, self._clock, cron)
        self._retention = Retention(store, runners, self._clock, self._settings.retention_days)
        return service

    def _runner(self, name: str, report: Report) -> NodeRunner:
        if name == "device":
            from gateway.workflows.device_runner import DeviceRunner

            return DeviceRunner(self._courier, report)
        if name == "http":
            from gateway.adapters.http.runner import HttpRunner

            return HttpRunner(report, http_networks(self._settings))
        from gateway.adapters.process.runner import ProcessRunner

        settings = self._settings
        try:
            return ProcessRunner(
                self._folder / JOBS_FOLDER, report, settings.process_user, settings.process_memory_bytes
            )
        except KeyError as error:
            raise SettingsError("workflows.process_user", f"there is no user {settings.process_user!r}") from error

    async def run(self) -> None:
        """Move runs on, once there are any. Until cancelled."""
        await self._opened.wait()
        self._moving = asyncio.create_task(self._move(), name="workflow manager")
        await self._moving

    async def _move(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._manager.run(), name="workflow turns")
            group.create_task(self._scheduler.run(), name="workflow schedules")
            group.create_task(self._retention.run(), name="workflow retention")

    async def close(self) -> None:
        """Processes that are at work live on; the next start adopts them."""
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.gather(self._moving, return_exceptions=True)
        await self._stack.aclose()


async def _retire(manager: Manager) -> None:
    try:
        await manager.retire()
    except StoreError as error:
        # Others take over when the lease has run out.
        _log.warning("workflow_store_away", message=str(error))
