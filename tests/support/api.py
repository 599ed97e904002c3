"""Both applications on fakes of what stands behind them, and how to ask and judge them."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Counter
from yarl import URL

from gateway.api.context import Api
from gateway.api.http_rates import HttpRates
from gateway.channels.commands import Command, Outcome, Settled
from gateway.channels.devices import DevicesFound
from gateway.channels.envelopes import Described
from gateway.channels.past import Past
from gateway.connections.info import ConnectionInfo, DisconnectInfo
from gateway.errors import StoreError, TokenError
from gateway.history.record import PastConnection
from gateway.identity.identity import Identity
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability, Outcomes, Refusal, Submitted
from gateway.locations.query import Found, Page, Query
from gateway.locations.times import EventTimes
from gateway.workflows.job_reports import JobReports
from gateway.workflows.service import WorkflowService
from tests.support.bench import Bench

NOW_MS = 1_800_000_000_000
JSON = {"Content-Type": "application/json"}
Client = TestClient[web.Request, web.Application]


class FakeClock:
    def time_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 0.0


class FakeTokens:
    """A token is `account:device:scope scope`."""

    def verify(self, token: str) -> Identity:
        if token == "expired":
            raise TokenError('the token has expired "now"')
        account, device, scopes = token.split(":", 2)
        return Identity(account, device, frozenset(scopes.replace(",", ":").split("+")), 2e9)


@dataclass
class FakeDevices:
    connected: dict[tuple[str, str], ConnectionInfo] = field(default_factory=dict)
    ended: dict[tuple[str, str], DisconnectInfo] = field(default_factory=dict)
    positions: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, int, str]] = field(default_factory=list)
    incomplete: str = ""

    def connect(self, account: str, device: str) -> None:
        self.connected[account, device] = ConnectionInfo("c", device, "", 1, "10.0.0.1:5", 2, 3)

    async def page(self, account: str, after: str | None, limit: int) -> DevicesFound:
        names = sorted(name for owner, name in self.connected if owner == account and (after is None or name > after))
        following = names[limit - 1] if len(names) > limit else None
        return DevicesFound([self.connected[account, name] for name in names[:limit]], following, self.incomplete)

    async def describe(self, account: str, device: str) -> Described:
        key = (account, device)
        return Described(self.connected.get(key), self.ended.get(key), self.positions.get(key))

    async def dismiss(self, account: str, device: str, code: int, reason: str) -> bool:
        self.asked.append((account, device, code, reason))
        return (account, device) in self.connected


@dataclass
class FakePast:
    connections: list[PastConnection] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    incomplete: str = ""
    failure: Exception | None = None

    async def read(self, account: str, device: str) -> Past:
        self.asked.append((account, device))
        if self.failure is not None:
            raise self.failure
        return Past(self.connections, self.incomplete)


@dataclass
class FakePipeline:
    """Acknowledges all but ids that begin with `no` (refused), `busy` (later) or `hang` (never answered)."""

    stored: list[tuple[str, str, str]] = field(default_factory=list)
    given: list[LocationEvent] = field(default_factory=list)
    forgotten: int = 0
    times: EventTimes = field(default_factory=lambda: EventTimes(FakeClock()))

    def submit(
        self, outcomes: Outcomes, sender: object, account: str, device: str, events: Sequence[LocationEvent]
    ) -> Submitted:
        self.given += events
        good = [event for event in events if not event.id.startswith(("no", "busy", "hang"))]
        self.stored += [(account, device, event.id) for event in good]
        loop = asyncio.get_running_loop()
        loop.call_soon(outcomes.acknowledge, sender, good[:1], Durability.INDEXED)
        loop.call_soon(outcomes.acknowledge, sender, good[1:], Durability.SPOOLED)
        for event in events:
            if event.id.startswith("no"):
                loop.call_soon(outcomes.refuse, sender, [event.id], Refusal("rejected", "will not", None))
            elif event.id.startswith("busy"):
                loop.call_soon(outcomes.refuse, sender, [event.id], Refusal("busy", "later", 1500))
        return Submitted()

    def forget(self, sender: object) -> None:
        self.forgotten += 1


@dataclass
class FakeSearch:
    asked: list[tuple[str, Query]] = field(default_factory=list)
    failure: Exception | None = None
    hangs: bool = False
    newest: Found | None = None

    async def search(self, account: str, query: Query) -> Page:
        self.asked.append((account, query))
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        return Page([Found("d", "1", 5, 1.0, 2.0)], "more")

    track = search

    async def latest(self, account: str, device: str) -> Found | None:
        return self.newest


@dataclass
class FakeCourier:
    """Settles every command as it was told to; remembers them."""

    settled: Settled = field(default_factory=lambda: Settled(Outcome.DONE, {"on": True}))
    sent: list[tuple[str, str, str, Any, int]] = field(default_factory=list)
    once: list[tuple[str, str, Command]] = field(default_factory=list)
    failure: Exception | None = None

    async def carry(self, command: Command, deadline_ms: int) -> Settled:
        self.sent.append((*command[:4], deadline_ms))
        return self.settled

    async def send_once(self, key: str, sender: str, command: Command, deadline_ms: int) -> Settled:
        if self.failure is not None:
            raise self.failure
        self.once.append((key, sender, command))
        return self.settled


class NoWorkflows:
    """Workflows whose store cannot be opened."""

    async def service(self) -> WorkflowService:
        raise StoreError("the workflow store is away")

    async def jobs(self) -> JobReports:
        raise StoreError("the workflow store is away")


class World:
    """The fakes, and a client of each listener."""

    def __init__(self) -> None:
        self.devices = FakeDevices()
        self.past = FakePast()
        self.pipeline = FakePipeline()
        self.search = FakeSearch()
        self.courier = FakeCourier()
        self.moves: list[tuple[str, str, list[str]]] = []
        self.registry = CollectorRegistry()
        Counter("heiwa_things", "Things.", registry=self.registry).inc()
        self.checks: list[tuple[str, bool, str]] = [("drain", True, ""), ("store", True, "")]
        self.api = Api(
            tokens=FakeTokens(),
            devices=self.devices,
            past=self.past,
            pipeline=self.pipeline,
            search=self.search,
            courier=self.courier,
            moves=self,
            readiness=lambda: self.checks,
            registry=self.registry,
            clock=FakeClock(),
            drainer=Bench().drainer,
            rates=HttpRates(50, 500, 262_144, 131_072),
            workflows=NoWorkflows(),
            max_message_bytes=4096,
            deadline_s=0.3,
        )
        self._opened: list[TestClient[web.Request, web.Application]] = []

    def moved(self, account: str, device: str, events: Sequence[LocationEvent]) -> None:
        """The Moves port: remembers them."""
        self.moves.append((account, device, [event.id for event in events]))

    async def client(
        self, build: Callable[[Api], web.Application], **changes: Any
    ) -> TestClient[web.Request, web.Application]:
        client = TestClient(TestServer(build(replace(self.api, **changes))))
        await client.start_server()
        self._opened.append(client)
        return client

    async def close(self) -> None:
        for client in self._opened:
            await client.close()


def bearer(scope: str, account: str = "acme", device: str = "d1") -> dict[str, str]:
    return {"Authorization": f"Bearer {account}:{device}:{scope.replace(' ', '+').replace(':', ',')}"}


def event(id_: str, **changes: Any) -> dict[str, Any]:
    return {"id": id_, "time": NOW_MS, "lat": 35.0, "lon": 135.0, **changes}


async def problem(response: Any, status: int) -> dict[str, Any]:
    """The body of a problem, after checking what every problem must have."""
    assert response.status == status
    assert response.content_type == "application/problem+json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = json.loads(await response.read())
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    return body


def device_url(device: str, rest: str = "") -> URL:
    return URL(f"/api/v1/devices/{quote(device, safe='')}{rest}", encoded=True)
