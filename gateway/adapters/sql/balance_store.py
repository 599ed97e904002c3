"""The BalanceStore port on SQLite and PostgreSQL, from one code."""

from __future__ import annotations

from gateway.adapters.sql import balancing
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.workflows.fleet import FleetSeen, Lead, Orders


class SqlBalanceStore:
    """See `gateway.workflows.ports.BalanceStore`. On the connections of a workflow store."""

    def __init__(self, store: SqlWorkflowStore) -> None:
        self._store = store

    async def fleet(self, *, counted: bool) -> FleetSeen:
        async with self._store.unit("fleet") as connection:
            return await balancing.fleet(connection, counted=counted)

    async def lead(self, holder: str, lease_s: float, lock_key: int | None, gone: int | None) -> Lead | None:
        async with self._store.unit("lead") as connection:
            return await balancing.lead(connection, holder, lease_s, lock_key, gone)

    async def obey(self, lead: Lead, orders: Orders) -> bool:
        async with self._store.unit("balance") as connection:
            return await balancing.obey(connection, lead, orders)

    async def yield_lead(self, lead: Lead) -> None:
        async with self._store.unit("yield") as connection:
            await balancing.yield_lead(connection, lead)
