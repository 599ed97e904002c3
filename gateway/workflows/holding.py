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
from gateway.workflows.ports import Presence, WorkflowStore
from gateway.workflows.records import Lease, Sign

LOOK_S = 1.0
_log = Log("workflows")


class Periods(NamedTuple):
    """A lease of `lease_s` is prolonged each `heartbeat_s`; what begins something outside keeps `margin_s` away from
    its end. Without progress for `standstill_s` there is no heartbeat. A run that takes `hog_s` of the loop's time
    while others wait is a hog."""

    heartbeat_s: float
    lease_s: float
    margin_s: float
    standstill_s: float
    hog_s: float

    @classmethod
    def of(cls, lease_s: float) -> Periods:
        """Some heartbeats may be lost before the lease is."""
        return cls(lease_s / 6, lease_s, lease_s / 6, lease_s / 2, 2 * lease_s)


class Holding:
    """`sign` is what the manager says of itself; `presence` is what others see of its process."""

    def __init__(
        self, store: WorkflowStore, clock: Clock, periods: Periods, presence: Presence, sign: Callable[[], Sign]
    ) -> None:
        self._store = store
        self._clock = clock
        self._periods = periods
        self._presence = presence
        self._sign = sign
        self._seen = -1
        self._seen_at_s = 0.0
        self._until_s = 0.0
        self.lease: Lease | None = None

    async def begin(self, manager: str, incarnation: str, *, again: bool = False) -> Lease:
        """A new life; see WorkflowStore.register. Raises StoreError, ManagerReplacedError."""
        asked_s = self._clock.monotonic_s()
        self.lease = await self._store.register(
            manager, incarnation, self._periods.lease_s, again=again, lock_key=self._presence.lock_key
        )
        self._until_s = asked_s + self._periods.lease_s
        self._seen, self._seen_at_s = self._sign().progress, asked_s
        return self.lease

    def may_act(self) -> bool:
        """Whether it is ours for long enough to begin something."""
        held = self.lease is not None and self._presence.may_act
        return held and self._clock.monotonic_s() < self._until_s - self._periods.margin_s

    async def keep(self) -> None:
        """Prolong it until it is lost or this is cancelled; at once when there is a hog to tell of."""
        told = 0
        while self.lease is not None:
            pause_s = self._periods.heartbeat_s
            while pause_s > 0 and self._sign().hogs == told:
                await asyncio.sleep(min(pause_s, LOOK_S))
                pause_s -= LOOK_S
            told = self._sign().hogs
            try:
                await self._beat(self.lease)
            except StoreError as error:
                _log.warning("workflow_heartbeat_failed", message=str(error))

    async def _beat(self, lease: Lease) -> None:
        now_s, sign = self._clock.monotonic_s(), self._sign()
        if sign.progress != self._seen:
            self._seen, self._seen_at_s = sign.progress, now_s
        elif now_s - self._seen_at_s > self._periods.standstill_s:
            _log.error("workflow_manager_stands", manager=lease.manager, stands_s=round(now_s - self._seen_at_s, 1))
            return
        said = sign._replace(lock_key=self._presence.lock_key)
        if not await self._store.heartbeat(lease, self._periods.lease_s, said):
            _log.warning("workflow_lease_lost", manager=lease.manager, fence=lease.fence)
            self.lease = None
            return
        # From when it was asked: the answer may have taken its time.
        self._until_s = now_s + self._periods.lease_s

    async def end(self) -> None:
        """Let others have the runs at once. Raises StoreError."""
        lease, self.lease = self.lease, None
        if lease is not None:
            await self._store.retire(lease)
