"""The rebalancer: looks at all managers, and orders who has which runs. Of several one is active at a time.

Each set of orders is one transaction under its lease, so there is nothing half done when it dies; what it knows from
one look to the next is only a hint, or a count that may begin anew.
"""

from __future__ import annotations

from gateway.clock import Clock
from gateway.telemetry.log import Log
from gateway.workflows.again import again
from gateway.workflows.balance import Balance, Limits
from gateway.workflows.figures import BalanceFigures
from gateway.workflows.fleet import FleetSeen, Lead, Orders
from gateway.workflows.lock_watch import LockWatch
from gateway.workflows.ports import BalanceStore, Presence

# Counting all runs takes more than the rest of a look.
COUNT_EVERY = 5
_log = Log("workflows")


class Rebalancer:
    """`holder` is a name that no other process has had, `lease_s` that of managers."""

    def __init__(
        self,
        store: BalanceStore,
        clock: Clock,
        holder: str,
        presence: Presence,
        figures: BalanceFigures,
        lease_s: float = 30.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._holder = holder
        self._presence = presence
        self._figures = figures
        self._limits = Limits.of(lease_s)
        self._watch = LockWatch(lease_s)
        self._balance = Balance(self._limits)
        self._lead: Lead | None = None

    async def run(self) -> None:
        """Until cancelled."""
        await again(self.turn, self._limits.look_s)

    async def turn(self) -> None:
        """One look, and what follows from it. Raises StoreError."""
        figures = self._figures
        counted = figures.looks % COUNT_EVERY == 0
        figures.looks += 1
        seen = await self._store.fleet(counted=counted)
        now_s = self._clock.monotonic_s()
        # Who waits for its turn to lead looks, too: it has to know who was there.
        gone = self._watch.look(seen, now_s)
        if not await self._leads(seen, gone):
            return
        figures.managers = len(seen.managers)
        figures.suspects = sum(1 for one in seen.managers if one.heard_s >= self._limits.suspect_s)
        if not counted and not self._balance.needs_counts(seen, gone):
            return
        if not counted:
            seen = await self._store.fleet(counted=True)
        await self._order(self._balance.decide(seen, gone, now_s))

    async def _leads(self, seen: FleetSeen, gone: frozenset[int]) -> bool:
        leader = seen.leader
        dead = leader is not None and leader.lock_key is not None and leader.lock_key in gone
        epoch = leader.epoch if leader is not None and dead else None
        lead = await self._store.lead(self._holder, self._limits.patience_s, self._presence.lock_key, epoch)
        if lead is not None and lead != self._lead:
            _log.info("workflow_rebalancer_leads", holder=lead.holder, epoch=lead.epoch)
        self._lead = lead
        self._figures.leading = lead is not None
        return lead is not None

    async def _order(self, orders: Orders) -> None:
        if orders.empty or self._lead is None:
            return
        if not await self._store.obey(self._lead, orders):
            _log.info("workflow_rebalancer_replaced", holder=self._holder)
            self._lead, self._figures.leading = None, False
            return
        self._tell(orders)

    def _tell(self, orders: Orders) -> None:
        figures = self._figures
        for dead in orders.dead:
            figures.dead["hint" if dead.hinted else "lease"] += 1
            runs = sum(share.runs for share in dead.shares)
            _log.warning("workflow_manager_dead", manager=dead.manager, hinted=dead.hinted, runs=runs)
        for name in orders.forced:
            figures.forced += 1
            _log.warning("workflow_runs_forced", manager=name)
        for reserve in orders.reserved:
            figures.reserved += 1
            _log.warning("workflow_manager_reserved", manager=reserve.manager, run=reserve.run, for_s=reserve.for_s)
        for move in orders.moves:
            runs = sum(share.runs for share in move.shares)
            figures.moves[move.why] += runs
            _log.info("workflow_runs_moved", manager=move.manager, runs=runs, why=move.why)

    async def end(self) -> None:
        """Let another lead at once. Raises StoreError."""
        lead, self._lead = self._lead, None
        if lead is not None:
            await self._store.yield_lead(lead)
