"""Takes the positions of a plan at their times and keeps each until it is acknowledged."""

from __future__ import annotations

import asyncio

from gateway.clock import Clock
from gateway.device import messages
from gateway.device.plan import Observer, Plan, Record
from gateway.device.track import Leg


class Measurer:
    """Fills the outbox. It sets `kept` after each event; the code that empties the outbox sets `room`."""

    def __init__(self, plan: Plan, record: Record, clock: Clock, observer: Observer, kept: asyncio.Event) -> None:
        self.room = asyncio.Event()
        self._plan = plan
        self._record = record
        self._clock = clock
        self._observer = observer
        self._kept = kept

    async def run(self) -> None:
        """Until the plan is fulfilled; may be cancelled at any time, what was kept stays."""
        plan, started_s = self._plan, self._clock.monotonic_s()
        due_s = started_s
        for leg in plan.legs:
            if plan.count is not None and self._record.measured >= plan.count:
                return
            if plan.speed > 0:
                due_s += leg.pause_ms / 1000 / plan.speed
            now_s = max(due_s, self._clock.monotonic_s())
            if plan.duration_s is not None and now_s > started_s + plan.duration_s:
                return
            if plan.speed > 0:
                await self._until(due_s)
            else:
                await self._until_room()
            self._keep(leg)

    async def _until(self, due_s: float) -> None:
        # Also when late: a device that lags must still let its connection work.
        await asyncio.sleep(max(0.0, due_s - self._clock.monotonic_s()))

    async def _until_room(self) -> None:
        if self._record.measured % 100 == 0:
            await asyncio.sleep(0)
        while self._record.outbox.full:
            self.room.clear()
            await self.room.wait()

    def _keep(self, leg: Leg) -> None:
        record, plan = self._record, self._plan
        id_ = f"{plan.id_prefix}-{record.measured}"
        time_ms = self._clock.time_ms()
        if plan.original_times and leg.recorded_ms is not None:
            time_ms = leg.recorded_ms
        dropped = record.outbox.put(id_, messages.encode_event(id_, time_ms, leg))
        if dropped is not None and record.outbox.dropped == 1:
            self._observer.note(f"memory full ({plan.capacity} events): the oldest are dropped from now on")
        record.measured += 1
        self._kept.set()
