"""A manager's lease: prolonged while it gets on, and given up for lost in good time.

The heartbeat stops when the manager makes no progress: a loop that stands must not look alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.telemetry.log import Log
from gateway.workflows.ports import WorkflowStore
from gateway.workflows.records import Lease

_log = Log("workflows")


class Periods(NamedTuple):
    """A lease of `lease_s` is prolonged each `heartbeat_s`; what begins something outside keeps `margin_s` away from
    its end. Without progress for `standstill_s` there is no heartbeat."""

    heartbeat_s: float
    lease_s: float
    margin_s: float
    standstill_s: float

    @classmethod
    def of(cls, lease_s: float) -> Periods:
        """Some heartbeats may be lost before the lease is."""
        return cls(lease_s / 6, lease_s, lease_s / 6, lease_s / 2)


class Holding:
    """`progress` is a number that grows whenever the manager gets on."""

    def __init__(self, store: WorkflowStore, clock: Clock, periods: Periods, progress: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._periods = periods
        self._progress = progress
        self._seen = -1
        self._seen_at_s = 0.0
        self._until_s = 0.0
        self.lease: Lease | None = None

    async def begin(self, manager: str, incarnation: str, *, again: bool = False) -> Lease:
        """A new life; see WorkflowStore.register. Raises StoreError, ManagerReplacedError."""
        asked_s = self._clock.monotonic_s()
        self.lease = await self._store.register(manager, incarnation, self._periods.lease_s, again=again)
        self._until_s = asked_s + self._periods.lease_s
        self._seen, self._seen_at_s = self._progress(), asked_s
        return self.lease

    def may_act(self) -> bool:
        """Whether it is ours for long enough to begin something."""
        return self.lease is not None and self._clock.monotonic_s() < self._until_s - self._periods.margin_s

    async def keep(self) -> None:
        """Prolong it, and take over for those who did not, until it is lost or this is cancelled."""
        while self.lease is not None:
            await asyncio.sleep(self._periods.heartbeat_s)
            try:
                await self._beat(self.lease)
            except StoreError as error:
                _log.warning("workflow_heartbeat_failed", message=str(error))

    async def _beat(self, lease: Lease) -> None:
        now_s, progress = self._clock.monotonic_s(), self._progress()
        if progress != self._seen:
            self._seen, self._seen_at_s = progress, now_s
        elif now_s - self._seen_at_s > self._periods.standstill_s:
            _log.error("workflow_manager_stands", manager=lease.manager, stands_s=round(now_s - self._seen_at_s, 1))
            return
        if not await self._store.heartbeat(lease, self._periods.lease_s, progress):
            _log.warning("workflow_lease_lost", manager=lease.manager, fence=lease.fence)
            self.lease = None
            return
        # From when it was asked: the answer may have taken its time.
        self._until_s = now_s + self._periods.lease_s
        for name in await self._store.release_dead(lease):
            _log.warning("workflow_manager_dead", manager=name)

    async def end(self) -> None:
        """Let others have the runs at once. Raises StoreError."""
        lease, self.lease = self.lease, None
        if lease is not None:
            await self._store.retire(lease)
