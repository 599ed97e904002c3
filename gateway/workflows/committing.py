"""What was decided is stored, and only then has effects. One transaction is under way while the next is decided.

A run whose change is not stored belongs to somebody else by now, and is forgotten. When the store fails, nobody knows
what it has; then the runs concerned are read again, and what was reported is applied once more. A change that the store
cannot take is tried alone: its run stands, and the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gateway.errors import AttemptTakenError, StoreError, UnstorableError
from gateway.telemetry.log import Log
from gateway.workflows.effects import Effects
from gateway.workflows.figures import ManagerFigures
from gateway.workflows.holding import Holding
from gateway.workflows.own_runs import AT_WORK, OwnRuns
from gateway.workflows.ports import WorkflowStore
from gateway.workflows.records import Change
from gateway.workflows.slices import Move
from gateway.workflows.states import is_run_over

Moves = Mapping[str, Move]
# What is at fault is one of the changes.
_OF_ONE = (AttemptTakenError, UnstorableError)
_log = Log("workflows")


class Committing:
    """`moved` is told each change that is stored, and when; `notice` that others of our runs were told something;
    `ended` that a transaction is over."""

    def __init__(
        self,
        store: WorkflowStore,
        holding: Holding,
        runs: OwnRuns,
        effects: Effects,
        figures: ManagerFigures,
        moved: Callable[[Change, int], None],
        notice: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._store = store
        self._holding = holding
        self._runs = runs
        self._effects = effects
        self._figures = figures
        self._moved = moved
        self._notice = notice
        self._ended = ended
        self._under_way: asyncio.Task[StoreError | None] | None = None
        # How many transactions ended well.
        self.stored = 0

    @property
    def is_busy(self) -> bool:
        """Whether a transaction is under way."""
        return self._under_way is not None and not self._under_way.done()

    async def add(self, moves: Moves, now_ms: int, group: asyncio.TaskGroup) -> None:
        """Begin to store them, in a task of `group`, once those before are stored.

        Raises StoreError when those before could not be; then these are decided again.
        """
        self._runs.storing.update(moves)
        try:
            await self.settled()
        except BaseException:
            self._take_back(moves)
            raise
        if moves:
            self._under_way = group.create_task(self._outcome(moves, now_ms), name="workflow commit")
            self._under_way.add_done_callback(lambda _: self._ended())

    async def settled(self) -> None:
        """Until nothing is under way. Raises StoreError when it failed."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None and (error := await under_way) is not None:
            raise error

    async def _outcome(self, moves: Moves, now_ms: int) -> StoreError | None:
        """A store that is away ends nothing: whoever waits for this one is told."""
        try:
            await self._commit(moves, now_ms)
        except StoreError as error:
            self._take_back(moves)
            return error
        except asyncio.CancelledError:
            self._take_back(moves)
            raise
        self.stored += 1
        return None

    async def _commit(self, moves: Moves, now_ms: int) -> None:
        changes: list[Change] = []
        for run, move in moves.items():
            if not move.folding.is_empty:
                changes.append(move.change(now_ms))
            elif self._runs.epoch(run) == move.live.epoch:
                self._settle(run, move)
            else:
                self._runs.storing.discard(run)
        if changes:
            await self._store_all(changes, moves, now_ms)

    async def _store_all(self, changes: list[Change], moves: Moves, now_ms: int) -> None:
        lease = self._holding.lease
        try:
            # Whose lease was lost in between has nothing to store.
            stored = await self._store.commit(lease, changes, now_ms) if lease is not None else set()
        except _OF_ONE as error:
            await self._one_by_one(changes, moves, now_ms, error)
            return
        self._figures.committed(sum(change.state.id in stored for change in changes))
        for change in changes:
            self._stored(change, moves[change.state.id], now_ms, stored)

    def _stored(self, change: Change, move: Move, now_ms: int, stored: set[str]) -> None:
        run = change.state.id
        kept = run in stored
        self._runs.heard(change.heard)
        if kept:
            self._figures.moved(move.live.definition, change)
            for child in change.children:
                if child.id in stored:
                    self._runs.begin(child, None)
            if change.children or (change.parent is not None and is_run_over(change.state.status)):
                self._notice()
        else:
            _log.info("workflow_run_lost", run=run)
            self._figures.lost += 1
        if self._runs.epoch(run) != change.epoch:
            # It went, and perhaps it is ours again; then it is read anew.
            self._runs.storing.discard(run)
        elif kept:
            self._settle(run, move)
        else:
            self._runs.storing.discard(run)
            self._runs.forget(run)
        if kept:
            self._moved(change, now_ms)

    async def _one_by_one(self, changes: list[Change], moves: Moves, now_ms: int, error: StoreError) -> None:
        """One of them begins an attempt that another engine has begun, or cannot be kept: the others must not wait for
        it."""
        if len(changes) > 1:
            for change in changes:
                await self._store_all([change], moves, now_ms)
            return
        run = changes[0].state.id
        if isinstance(error, AttemptTakenError):
            _log.error("workflow_attempt_taken", run=run, message=str(error))
        else:
            _log.error("workflow_run_unstorable", run=run, message=str(error))
        self._runs.storing.discard(run)
        self._runs.stuck.add(run)
        self._runs.forget(run)

    def _settle(self, run: str, move: Move) -> None:
        """It is stored: now it may have effects."""
        runs, folding, live = self._runs, move.folding, move.live
        state = folding.state
        runs.storing.discard(run)
        runs.live.grow(run, live, folding.grown_bytes)
        live.state = state
        self._effects.add(run, live.account, folding.commands)
        if is_run_over(state.status):
            if run not in runs.told:
                runs.forget(run)
            return
        runs.wake(run, state.wake_ms)
        runs.bind(run, live)
        if run not in runs.told and not any(state.rows[key].status in AT_WORK for key in state.active):
            runs.live.drop(run)

    def _take_back(self, moves: Moves) -> None:
        """The store failed: nobody knows what it has of those that are not settled. What was told is told again."""
        for run, move in moves.items():
            if run in self._runs.storing:
                self._runs.storing.discard(run)
                self._runs.heard(move.folding.heard)
                if self._runs.epoch(run) == move.live.epoch:
                    self._runs.retell(run, move.taken)
