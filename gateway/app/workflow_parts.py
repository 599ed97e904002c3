"""Workflows of this process. Nothing of them is loaded until somebody asks for them, or a store has runs to move on."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zlib import crc32

from gateway.app.roles import Roles
from gateway.channels.courier import Courier
from gateway.channels.fanout import Fanout
from gateway.clock import Clock
from gateway.errors import SettingsError, StoreError
from gateway.settings.workflows import WorkflowAccount, Workflows
from gateway.telemetry.log import Log
from gateway.wire.uuid7 import text_of, uuid7
from gateway.workflows.allowed import names
from gateway.workflows.cloud_ports import CloudJobs
from gateway.workflows.figures import BalanceFigures, ManagerFigures
from gateway.workflows.job_access import JobAccess
from gateway.workflows.job_reports import JobReports
from gateway.workflows.manager import Manager
from gateway.workflows.metrics import WorkflowMetrics
from gateway.workflows.own_word import OwnWord
from gateway.workflows.ports import Alone, NodeRunner, Presence, Report, WorkflowStore
from gateway.workflows.records import Change
from gateway.workflows.run_log import WORKFLOW, WORKFLOWS, ListLog, RunLog, list_channel, run_channel
from gateway.workflows.service import WorkflowService
from gateway.workflows.step import Happening

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from gateway.workflows.rebalancer import Rebalancer

STORE_NAME = "workflows.db"
JOBS_FOLDER = "workflow-jobs"
# The store of one process has one manager, which finds its runs again by its name; of a shared one each has its own.
_LOCAL = "local"
_RUNNERS = ("device", "process", "http", "batch", "ecs")
# Handing runs over takes some ten milliseconds; without it others wait for the end of the lease.
STOP_S = 3.0
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
    if settings.jobs_url and not _is_address(settings.jobs_url):
        told = f"{settings.jobs_url!r} is not an HTTP address; write http://heiwa.internal:8082, or https://…"
        raise SettingsError("workflows.jobs_url", told)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return whole and not (parts.query or parts.fragment) and url.isprintable() and " " not in url


def http_networks(settings: Workflows) -> list[Any]:
    """Networks that requests may go to although they are not public. Raises SettingsError."""
    from gateway.adapters.http.guard import parse_networks

    try:
        return parse_networks(settings.http_networks)
    except ValueError as error:
        raise SettingsError("workflows.http_networks", str(error)) from error


def cloud_jobs(name: str, settings: Workflows, accounts: Mapping[str, WorkflowAccount]) -> CloudJobs:
    """The service of the cloud that does the work of this runner."""
    from gateway.adapters.aws.clients import AwsClients

    def lists(account: str) -> dict[str, tuple[str, ...]]:
        found = accounts.get(account, WorkflowAccount())
        return {field: names(getattr(found, field)) for field in found.__struct_fields__}

    clients = AwsClients(os.environ)
    if name == "batch":
        from gateway.adapters.aws.batch import BatchJobs

        return BatchJobs(clients, lists)
    from gateway.adapters.aws.ecs_tasks import EcsTasks, Network

    network = Network(settings.ecs_launch_type, names(settings.ecs_subnets), names(settings.ecs_security_groups))
    return EcsTasks(clients, lists, network)


class WorkflowParts:
    """`open_if_used` at the start; `service` whenever somebody asks; `run` for as long as the process lives."""

    def __init__(
        self,
        settings: Workflows,
        accounts: Mapping[str, WorkflowAccount],
        folder: Path,
        clock: Clock,
        chance: random.Random,
        courier: Courier,
        fanout: Fanout,
        jobs_url: str = "",
        roles: Roles = Roles(),  # noqa: B008
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._roles = roles
        self._figures, self._balance_figures = ManagerFigures(), BalanceFigures()
        self.metrics = WorkflowMetrics(self._figures, self._balance_figures)
        self._folder = folder
        self._clock = clock
        self._chance = chance
        self._courier = courier
        self._fanout = fanout
        self._jobs_url = jobs_url
        self._run_log = RunLog(self.service)
        fanout.offer_log(WORKFLOW, self._run_log)
        fanout.offer_log(WORKFLOWS, ListLog(self.service))
        self._names = runners_on(settings)
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._opened = asyncio.Event()
        self._service: WorkflowService | None = None
        self._notice: Callable[[], None] = lambda: None
        self._give_up: Callable[[], None] = lambda: None
        self._moving: asyncio.Task[None] | None = None
        self._parts: list[tuple[str, Coroutine[Any, Any, None]]] = []

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
                    stack.callback(self._drop_parts)
                    self._service = await self._open(stack)
                    self._stack = stack.pop_all()
                self._opened.set()
            return self._service

    async def jobs(self) -> JobReports:
        """What jobs say; opens the store, too."""
        await self.service()
        return self._jobs

    async def _open(self, stack: AsyncExitStack) -> WorkflowService:
        from gateway.adapters import cron
        from gateway.adapters.sql.engine import parse_url
        from gateway.adapters.sql.store import SqlWorkflowStore
        from gateway.adapters.yaml_source import read_yaml

        url = parse_url(self._settings.store_url or f"sqlite:///{self._folder / STORE_NAME}")
        embedded = url.get_backend_name() == "sqlite"
        if embedded and not self._roles.manager:
            raise SettingsError("serve.roles", "has no manager, and with SQLite no other process can have it")
        store = SqlWorkflowStore(url, idle_s=self._settings.lease_s, live_runs=self._settings.live_runs)
        self._give_up = store.give_up
        stack.push_async_callback(store.close)
        await store.open()
        self._run_log.alone = embedded
        key = await store.job_key()
        access = JobAccess(self._jobs_url, key)
        runners: dict[str, NodeRunner] = {}
        incarnation = text_of(*uuid7(self._clock.time_ms(), self._chance.getrandbits(74)))
        presence = await self._present(url, incarnation, stack) if not embedded else Alone()
        manager = self._manager(store, runners, _LOCAL if embedded else _name(incarnation), incarnation, presence)
        service = self._made = WorkflowService(
            store,
            runners,
            self._clock,
            self._chance,
            read_yaml,
            cron,
            (lambda: manager.name) if manager is not None else (lambda: None),
            manager.notice if manager is not None else (lambda: None),
            manager.begin if manager is not None else (lambda new, version: None),
        )
        report = manager.report if manager is not None else _nobody
        if manager is not None and not embedded:
            stack.push_async_callback(_retire, manager)
        own_word = OwnWord(report, store.attempt)
        stack.push_async_callback(own_word.close)
        for name in self._names:
            told = own_word if name == "process" and access.is_on else report
            runners[name] = self._runner(name, told, access, store)
            stack.push_async_callback(runners[name].close)
        self._jobs = JobReports(store, key, self._clock, manager.notice if manager is not None else lambda: None)
        self._parts.append(("workflow job reports", self._jobs.run()))
        if manager is not None:
            await self._manage(manager, store, service, runners)
        if self._roles.rebalancer and not embedded:
            self._rebalance(store, incarnation, presence, stack)
        return service

    async def _present(self, url: URL, incarnation: str, stack: AsyncExitStack) -> Presence:
        """What others see of this process, where it does something that others would have to take over."""
        if not (self._roles.manager or self._roles.rebalancer) or not self._settings.death_hint:
            return Alone()
        from gateway.adapters.sql.session_lock import SessionLock

        lock = SessionLock(url, crc32(incarnation.encode()) >> 1, self._noticed)
        stack.push_async_callback(lock.close)
        await lock.start()
        self._parts.append(("workflow lock", lock.run()))
        return lock

    def _noticed(self) -> None:
        self._notice()

    def _manager(
        self,
        store: WorkflowStore,
        runners: dict[str, NodeRunner],
        name: str,
        incarnation: str,
        presence: Presence,
    ) -> Manager | None:
        if not self._roles.manager:
            return None

        def moved(change: Change, now_ms: int) -> None:
            account, channel = change.account, run_channel(change.account, change.state.id)
            self._made.moved(change.state.id, account)
            if self._fanout.listens(channel):
                self._run_log.take(change, now_ms)
            self._fanout.hint(channel)
            if change.parent is None and any(event.node is None for event in change.events):
                self._fanout.hint(list_channel(account))

        manager = Manager(
            store,
            runners,
            self._clock,
            name,
            incarnation,
            cache_bytes=self._settings.cache_bytes,
            lease_s=self._settings.lease_s,
            presence=presence,
            figures=self._figures,
            moved=moved,
        )
        self._notice = manager.notice
        return manager

    async def _manage(
        self, manager: Manager, store: WorkflowStore, service: WorkflowService, runners: dict[str, NodeRunner]
    ) -> None:
        from gateway.adapters import cron
        from gateway.workflows.retention import Retention
        from gateway.workflows.scheduler import Scheduler

        await manager.start()
        retention = Retention(store, runners, self._clock, self._settings.retention_days)
        self._parts += [
            ("workflow turns", manager.run()),
            ("workflow schedules", Scheduler(store, service, self._clock, cron).run()),
            ("workflow retention", retention.run()),
        ]

    def _rebalance(self, store: Any, holder: str, presence: Presence, stack: AsyncExitStack) -> None:
        from gateway.adapters.sql.balance_store import SqlBalanceStore
        from gateway.workflows.rebalancer import Rebalancer

        rebalancer = Rebalancer(
            SqlBalanceStore(store), self._clock, holder, presence, self._balance_figures, self._settings.lease_s
        )
        stack.push_async_callback(_yield, rebalancer)
        self._parts.append(("workflow rebalancer", rebalancer.run()))

    def _runner(self, name: str, report: Report, access: JobAccess, store: WorkflowStore) -> NodeRunner:
        if name == "device":
            from gateway.workflows.device_runner import DeviceRunner

            return DeviceRunner(self._courier, report)
        if name == "http":
            from gateway.adapters.http.runner import HttpRunner

            return HttpRunner(report, http_networks(self._settings), access)
        if name in ("batch", "ecs"):
            from gateway.workflows.cloud_runner import CloudRunner

            return CloudRunner(cloud_jobs(name, self._settings, self._accounts), report, access, store.attempt)
        from gateway.adapters.process.runner import ProcessRunner

        settings = self._settings
        try:
            return ProcessRunner(
                self._folder / JOBS_FOLDER,
                report,
                access,
                settings.process_user,
                settings.process_memory_bytes,
                settings.process_maximum,
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
            while self._parts:
                name, part = self._parts.pop()
                group.create_task(part, name=name)
            # A process that only begins runs has no part in moving them.
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Processes that are at work live on; the next start adopts them."""
        giving_up = asyncio.get_running_loop().call_later(STOP_S, self._give_up)
        try:
            if self._moving is not None:
                self._moving.cancel()
                await asyncio.gather(self._moving, return_exceptions=True)
            await self._stack.aclose()
        finally:
            giving_up.cancel()
            # Who is cancelled here leaves nothing that waits.
            self._give_up()

    def _drop_parts(self) -> None:
        """Those that were never run."""
        while self._parts:
            self._parts.pop()[1].close()


def _name(incarnation: str) -> str:
    """Of a manager among others."""
    return f"{socket.gethostname()[:40]}-{incarnation[-12:]}"


def _nobody(run: str, happening: Happening) -> None:
    """Runners of a process without a manager only say what is wrong with a definition."""


async def _retire(manager: Manager) -> None:
    try:
        await manager.retire()
    except StoreError as error:
        # Others take over when the lease has run out.
        _log.warning("workflow_store_away", message=str(error))


async def _yield(rebalancer: Rebalancer) -> None:
    try:
        await rebalancer.end()
    except StoreError as error:
        _log.warning("workflow_store_away", message=str(error))
