"""How many runs of one account may be live, nested ones included: a workflow that begins itself again has no other end.

Live runs are counted, not kept beside them, but not for every insert: a quarter of the room that a count has found is
given out before the next one. Others who insert meanwhile may go beyond the limit by what they were given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql import tables
from gateway.telemetry.log import Log
from gateway.workflows.records import NewRun

_LASTS_MS = 10_000
# Of an account that is full.
_FULL_MS = 1_000
_MAX_KNOWN = 4_096
_log = Log("workflows")


class _Room(NamedTuple):
    """What may be given out without a count, until when."""

    runs: int
    since_ms: int
    full: bool = False

    def holds(self, wanted: int, now_ms: int) -> bool:
        lasts_ms = _FULL_MS if self.full else _LASTS_MS
        return 0 <= now_ms - self.since_ms < lasts_ms and (self.full or wanted <= self.runs)


class Quota:
    """`live_runs` None: there is no limit."""

    def __init__(self, live_runs: int | None) -> None:
        self.live_runs = live_runs
        self._known: dict[str, _Room] = {}

    async def admitted(self, connection: AsyncConnection, news: Sequence[NewRun], now_ms: int) -> set[str]:
        """The ids of those that there is room for, the first ones of each account."""
        if self.live_runs is None:
            return {new.id for new in news}
        wanted = Counter(new.account for new in news)
        left = await self._room(connection, wanted, now_ms, self.live_runs)
        admitted: set[str] = set()
        for new in news:
            if left[new.account] > 0:
                left[new.account] -= 1
                admitted.add(new.id)
        return admitted

    async def _room(
        self, connection: AsyncConnection, wanted: Counter[str], now_ms: int, live_runs: int
    ) -> dict[str, int]:
        room: dict[str, int] = {}
        unknown: list[str] = []
        for account, runs in wanted.items():
            known = self._known.get(account)
            if known is not None and known.holds(runs, now_ms):
                room[account] = known.runs
                self._known[account] = known._replace(runs=max(0, known.runs - runs))
            else:
                unknown.append(account)
        if unknown:
            if len(self._known) > _MAX_KNOWN:
                self._known.clear()
            counts = await _counts(connection, unknown)
            for account in unknown:
                room[account] = free = max(0, live_runs - counts.get(account, 0))
                full = free < wanted[account]
                self._known[account] = _Room(max(0, free - wanted[account]) // 4, now_ms, full)
                if full:
                    _log.warning("workflow_account_full", account=account, live_runs=counts.get(account, 0))
        return room


async def _counts(connection: AsyncConnection, accounts: Sequence[str]) -> dict[str, int]:
    found = tables.run.c
    live = select(found.account, func.count().label("runs"))
    live = live.where(found.ended_ms.is_(None), found.account.in_(accounts)).group_by(found.account)
    return {row.account: row.runs for row in await connection.execute(live)}
