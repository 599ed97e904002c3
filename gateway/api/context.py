"""What the routes need from the rest of the gateway; `app.py` fills it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client.registry import CollectorRegistry

from gateway.api.http_rates import HttpRates
from gateway.channels.commands import Command, Settled
from gateway.channels.devices import DevicesFound
from gateway.channels.envelopes import Described
from gateway.channels.past import Past
from gateway.clock import Clock
from gateway.drain.drainer import Drainer
from gateway.drain.target_health import TargetHealthWatch
from gateway.identity.identity import Identity
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Outcomes, Submitted
from gateway.locations.query import Found, Page, Query
from gateway.locations.times import EventTimes
from gateway.workflows.job_reports import JobReports
from gateway.workflows.service import WorkflowService


class Tokens(Protocol):
    """Checks tokens."""

    def verify(self, token: str) -> Identity:
        """Raises TokenError with a message that is safe to show."""


class Devices(Protocol):
    """What is known of devices, within one account. All but `page` may raise BrokerDownError."""

    async def page(self, account: str, after: str | None, limit: int) -> DevicesFound:
        """At most `limit` connected devices behind `after`, by id."""

    async def describe(self, account: str, device: str) -> Described:
        """Its newest connection, how its last one ended, and the latest position of a connected one, from memory."""

    async def dismiss(self, account: str, device: str, code: int, reason: str) -> bool:
        """Begin a planned close, announced by `goaway`. False: it is not connected."""


class PastConnections(Protocol):
    """What is remembered of connections, within one account."""

    async def read(self, account: str, device: str) -> Past:
        """The newest first. Raises StoreError."""


class Pipeline(Protocol):
    """Takes events, and tells later what became of them."""

    def submit(
        self, outcomes: Outcomes, sender: Any, account: str, device: str, events: Sequence[LocationEvent]
    ) -> Submitted:
        """Take events, or say why not."""

    @property
    def times(self) -> EventTimes:
        """Judges the times of events."""

    def forget(self, sender: Any) -> None:
        """The sender is told nothing any more; what was taken is stored all the same."""


class Moves(Protocol):
    """Tells who watches a device where it is."""

    def moved(self, account: str, device: str, events: Sequence[LocationEvent]) -> None:
        """These events are durable."""


class Commands(Protocol):
    """Carries commands to devices."""

    async def carry(self, command: Command, deadline_ms: int) -> Settled:
        """Send one and wait for its result, or say why there is none. Never raises."""

    async def send_once(self, key: str, sender: str, command: Command, deadline_ms: int) -> Settled:
        """The same under an idempotency key. Raises KeyReusedError or BrokerDownError."""


class Search(Protocol):
    """Answers questions about stored events."""

    async def search(self, account: str, query: Query) -> Page:
        """Newest first. Raises StoreError."""

    async def track(self, account: str, query: Query) -> Page:
        """Of one device, oldest first. Raises StoreError."""

    async def latest(self, account: str, device: str) -> Found | None:
        """The newest event of a device. Raises StoreError."""


class Workflows(Protocol):
    """Workflows of this process, which are opened when they are asked for first."""

    async def service(self) -> WorkflowService:
        """Raises HeiwaError when the store cannot be opened."""

    async def jobs(self) -> JobReports:
        """What jobs of workflows say; raises the same."""


# A name, whether it is well, and why not.
Readiness = Callable[[], list[tuple[str, bool, str]]]


@dataclass(frozen=True)
class Api:
    """`watch` None: there is no load balancer to follow.

    `open_metrics`: a peer on this machine may read the metrics without a token.
    """

    tokens: Tokens
    devices: Devices
    past: PastConnections
    pipeline: Pipeline
    search: Search
    courier: Commands
    moves: Moves
    readiness: Readiness
    registry: CollectorRegistry
    clock: Clock
    drainer: Drainer
    rates: HttpRates
    workflows: Workflows
    watch: TargetHealthWatch | None = None
    max_message_bytes: int = 131_072
    open_metrics: bool = True
    deadline_s: float = 30.0
