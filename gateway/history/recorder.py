"""Writes down who comes and goes, a batch a second; on the loop it costs a tuple each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.metrics_core import Metric

from gateway.connections.ending import DRAIN, SHUTDOWN
from gateway.connections.info import DisconnectInfo
from gateway.connections.registry import Member
from gateway.connections.table import Table
from gateway.errors import StoreError
from gateway.history.ports import HistoryStore
from gateway.history.record import Began, Ended, Happening
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import counter, gauge

PERIOD_S = 1.0
# While the store takes nothing. A whole fleet that moves twice.
MAX_DUE = 200_000
# Written in one commit: a larger one holds up readers.
BATCH = 20_000
# For what came since the last second.
FINISH_S = 3.0
_SENT_AWAY = (DRAIN.name, SHUTDOWN.name)
# Half of what the constructor of a named tuple costs, which is a function of Python's.
_new: Any = tuple.__new__

_log = Log("history")


class Recorder:
    """A follower of the registry. `drain` tells who began the drain that goes on, and when (ms); None: none does."""

    def __init__(self, table: Table, store: HistoryStore) -> None:
        self._table = table
        self._store = store
        self._due: list[Happening] = []
        self._failing = False
        self._writing = asyncio.Lock()
        self.drain: Callable[[], tuple[str, int] | None] = lambda: None
        self.lost = 0

    def joined(self, member: Member) -> None:
        """It is open."""
        table, slot, profile = self._table, member.slot, member.profile
        if self._has_room():
            began = (
                profile.account.name,
                member.device,
                table.id_high[slot],
                table.id_low[slot],
                table.address_high[slot],
                table.address_low[slot],
                profile.device_class,
            )
            self._due.append(_new(Began, began))

    def changed(self, member: Member) -> None:
        """Nothing that is remembered."""

    def left(self, member: Member, ended: DisconnectInfo) -> None:
        """It ended."""
        table, slot = self._table, member.slot
        if self._has_room():
            drain = self.drain() if ended.reason in _SENT_AWAY else None
            end = (
                member.profile.account.name,
                member.device,
                table.id_high[slot],
                table.id_low[slot],
                ended.time_ms,
                ended.code,
                ended.reason,
                ended.fault,
                drain,
            )
            self._due.append(_new(Ended, end))

    def _has_room(self) -> bool:
        if len(self._due) < MAX_DUE:
            return True
        self.lost += 1
        return False

    async def run(self) -> None:
        """Write once a second until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            await self.flush()

    async def finish(self) -> None:
        """Write the rest at the end of the process; a store that does not answer must not hold that up."""
        try:
            async with asyncio.timeout(FINISH_S):
                await self.flush()
        except TimeoutError:
            _log.error("history_not_written", message="the store does not answer", count=len(self._due))

    async def flush(self) -> None:
        """Write what is due. What the store does not take waits."""
        async with self._writing:
            while self._due:
                batch = self._due[:BATCH]
                try:
                    await self._store.write(batch)
                except StoreError as error:
                    if not self._failing:
                        _log.error("history_not_written", message=str(error))
                    self._failing = True
                    return
                except Exception as error:
                    # It would fail again and again, and everything behind it with it.
                    _log.error("history_dropped", exc_info=error, count=len(batch))
                    self.lost += len(batch)
                self._failing = False
                del self._due[: len(batch)]

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""
        yield gauge("heiwa_history_due", "Connects and disconnects that are not written down yet.", len(self._due))
        yield counter("heiwa_history_lost", "Of those, how many never will be: the store took nothing.", self.lost)
