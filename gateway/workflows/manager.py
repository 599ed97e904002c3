"""The manager: one process that moves many runs on.

A turn: hear what was told to runs, decide what follows for those with something to do, and have all that stored in one
transaction; see `committing.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.telemetry.log import Log
from gateway.workflows.adopting import adoptions
from gateway.workflows.committing import Committing
from gateway.workflows.definitions import Definitions
from gateway.workflows.effects import Effects
from gateway.workflows.figures import ManagerFigures
from gateway.workflows.hearing import readable
from gateway.workflows.holding import Holding, Periods
from gateway.workflows.live import Live
from gateway.workflows.own_runs import OwnRuns
from gateway.workflows.ports import Alone, NodeRunner, Presence, WorkflowStore
from gateway.workflows.records import Change, Lease, NewRun, Owned, RunDetail, Sign, Signal
from gateway.workflows.slices import Move, Slices, Told
from gateway.workflows.states import AttemptStatus, RunStatus
from gateway.workflows.step import Begin, Cancel, Happening, Tick

BATCH_RUNS = 256
# A transaction costs as much for one run as for twenty: what is told right behind one waits for others.
GATHER_S = 0.005
POLL_S = 1.0
MAX_HEARD = 1_000
MAX_CLAIMED = 1_000
# Of the loop's time in one turn: then what was decided is stored, and others have the loop.
TURN_S = 0.1
_log = Log("workflows")


class Manager:
    """`start`, then `run`. `moved` is told each change that is stored, and when: its events can be read."""

    def __init__(
        self,
        store: WorkflowStore,
        runners: Mapping[str, NodeRunner],
        clock: Clock,
        name: str,
        incarnation: str,
        *,
        cache_bytes: int = 64 * 2**20,
        lease_s: float = 30.0,
        presence: Presence | None = None,
        figures: ManagerFigures | None = None,
        moved: Callable[[Change, int], None] = lambda change, now_ms: None,
    ) -> None:
        self.name = name
        self._store = store
        self._clock = clock
        self._incarnation = incarnation
        self._idle_turns = 0
        self._runners = runners
        self._figures = figures or ManagerFigures()
        periods = Periods.of(lease_s)
        self._slices = Slices(clock, periods.hog_s, self._figures)
        self._holding = Holding(store, clock, periods, presence or Alone(), self._sign)
        self._effects = Effects(runners, store, clock, self.report, self.notice, self._holding.may_act)
        self._owned = OwnRuns(clock, cache_bytes, runners)
        self._something = asyncio.Event()
        # Enough for a whole transaction was told, or the one under way has ended.
        self._woken = asyncio.Event()
        self._committing = Committing(
            store, self._holding, self._owned, self._effects, self._figures, moved, self.notice, self._ended
        )
        self._definitions = Definitions(store)
        self._poll_at_s = 0.0

    # What others say

    def report(self, run: str, happening: Happening) -> None:
        """A runner tells what became of an attempt. What is not ours is dropped: its manager asks for itself."""
        if run in self._owned:
            self._owned.tell(run, readable(happening))
            self._told()

    def begin(self, new: NewRun, version: int) -> None:
        """A run was stored that is this manager's. Who does not say so has it begun at the next poll."""
        self._owned.begin(new, version)
        self._told()

    def _told(self) -> None:
        self._something.set()
        if self._is_full:
            self._woken.set()

    def _ended(self) -> None:
        self._woken.set()
        self._something.set()

    @property
    def _is_full(self) -> bool:
        return len(self._owned.told) >= BATCH_RUNS

    def _sign(self) -> Sign:
        """It gets on while turns end well, and what was decided is carried out."""
        now_s = self._clock.monotonic_s()
        loop_time = self._slices.loop_time
        progress = self._idle_turns + self._committing.stored if not self._effects.stands else -1
        return Sign(progress, None, loop_time.hog(now_s), loop_time.hogs)

    def notice(self) -> None:
        """A signal was stored: look for it now, not at the next poll."""
        self._poll_at_s = 0.0
        self._something.set()

    # Its life

    async def start(self, *, again: bool = False) -> None:
        """Take over what an earlier life of this name has left. Raises StoreError.

        `again`: after a lease was lost. Raises ManagerReplacedError where another process has the name.
        """
        lease = await self._holding.begin(self.name, self._incarnation, again=again)
        at_work = await self._store.at_work(lease)
        for owned in await self._store.owned(lease):
            self._owned.own(owned)
            if owned.id in at_work or owned.wake_ms is None:
                self._owned.doubt(owned.id)
        _log.info("workflow_manager_started", manager=self.name, fence=lease.fence, runs=len(self._owned))

    async def run(self) -> None:
        """Until cancelled. A lease that is lost is followed by a new life, which begins without any run."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._effects.run(), name="workflow effects")
            group.create_task(self._turns(group), name="workflow turns")
            group.create_task(self._hold(), name="workflow lease")

    async def _hold(self) -> None:
        while True:
            await self._holding.keep()
            await asyncio.sleep(POLL_S)

    async def _begin_again(self) -> None:
        """The lease was lost: nothing that is known here counts any more."""
        await self._committing.settled()
        self._effects.clear()
        self._owned.forget_all()
        await self.start(again=True)

    async def retire(self) -> None:
        """Let others have the runs at once; not after `run` was cancelled by a crash. Raises StoreError."""
        await self._holding.end()

    async def _turns(self, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                if self._holding.lease is None:
                    await self._begin_again()
                await self._hear()
                now_ms = self._clock.time_ms()
                chosen = self._owned.choose(now_ms, BATCH_RUNS, self._figures)
                moves = await self._decide(chosen, now_ms)
                await self._committing.add(moves, now_ms, group)
            except StoreError as error:
                _log.warning("workflow_store_away", message=str(error))
                await asyncio.sleep(POLL_S)
                continue
            # Only what is stored is progress: one that moves nothing must not look alive.
            self._idle_turns += not moves
            self._figures.runs, self._figures.waiting = len(self._owned), self._owned.waiting
            await self._pause(busy=bool(chosen))

    async def _pause(self, *, busy: bool) -> None:
        """What is told while a transaction is under way is decided together, unless it fills one."""
        while self._committing.is_busy and not self._is_full:
            self._woken.clear()
            await self._woken.wait()
        if not busy:
            await self._rest()
        elif not self._is_full:
            await asyncio.sleep(GATHER_S)

    async def _rest(self) -> None:
        """Until something is told, a run is due, or it is time to look for signals."""
        pause_s = self._poll_at_s - self._clock.monotonic_s()
        due_ms = self._owned.next_ms
        if due_ms is not None:
            pause_s = min(pause_s, (due_ms - self._clock.time_ms()) / 1000)
        if pause_s > 0 and not self._something.is_set():
            try:
                async with asyncio.timeout(pause_s):
                    await self._something.wait()
            except TimeoutError:
                pass
        self._something.clear()

    # Hearing

    async def _hear(self) -> None:
        """Signals that were stored since, and runs that nobody has, or has begun."""
        lease = self._holding.lease
        if lease is None or (self._clock.monotonic_s() < self._poll_at_s and not self._owned.hungry):
            return
        self._owned.hungry = False
        self._poll_at_s = self._clock.monotonic_s() + POLL_S
        claimed = await self._store.claim(lease, MAX_CLAIMED)
        for owned in claimed:
            # It may have been ours before: what was known of it then does not count any more.
            self._owned.forget(owned.id)
            self._owned.own(owned)
            self._owned.doubt(owned.id)
            self._figures.claimed += 1
        await self._let_go(lease)
        for owned in await self._store.queued(lease, MAX_HEARD, self._owned.stuck):
            if owned.id not in self._owned:
                self._owned.own(owned)
                self._owned.doubt(owned.id)
        heard = await self._store.signals(lease, MAX_HEARD, self._owned.stuck, orders=True)
        heard += await self._store.signals(lease, MAX_HEARD, self._owned.deaf)
        for owned, signal in heard:
            self._hear_one(owned, signal)
        if len(heard) >= MAX_HEARD or len(claimed) >= MAX_CLAIMED:
            self._poll_at_s = 0.0

    def _hear_one(self, owned: Owned, signal: Signal) -> None:
        try:
            self._owned.hear(owned, signal)
        except Exception as error:
            # Whoever told it is of a later version.
            self._stand(owned.id, error)

    async def _let_go(self, lease: Lease) -> None:
        """Runs that others are to have leave when nothing is being begun, and nothing is at work that cannot move."""
        offered = await self._store.offered(lease, MAX_CLAIMED)
        asked = [
            owned
            for run in offered
            if (owned := self._owned.owned(run)) is not None
            and self._owned.at_boundary(run)
            and not self._effects.has(run)
        ]
        if not asked:
            return
        gone = await self._store.let_go(lease, asked)
        self._figures.let_go += len(gone)
        for run in gone:
            self._owned.forget(run)

    # Deciding

    async def _decide(self, chosen: Iterable[str], now_ms: int) -> dict[str, Move]:
        """What follows for these. Raises StoreError; then the next turn has them."""
        try:
            await self._bring(chosen)
        except StoreError:
            self._owned.again(chosen)
            raise
        moves = self._advance_some(deque(chosen), now_ms)
        self._owned.live.evict(self._owned.told)
        return moves

    def _advance_some(self, chosen: deque[str], now_ms: int) -> dict[str, Move]:
        """Those for which this turn has time; the others have the next one."""
        moves: dict[str, Move] = {}
        others = len(chosen) > 1
        end_s = self._clock.monotonic_s() + TURN_S
        while chosen and (not moves or self._clock.monotonic_s() < end_s):
            run = chosen.popleft()
            move = self._advance(run, now_ms, others=others)
            if move is not None:
                moves[run] = move
        self._owned.again(chosen)
        return moves

    async def _bring(self, chosen: Iterable[str]) -> None:
        """Into memory those that are not there; what is not ours any more is forgotten."""
        lease = self._holding.lease
        missing: list[Owned] = []
        for run in chosen:
            owned = self._owned.owned(run)
            if owned is None or lease is None or self._owned.live.find(run) is not None:
                continue
            detail = self._owned.take_fresh(run)
            if detail is not None:
                await self._enliven(owned, detail)
            else:
                missing.append(owned)
        if not missing or lease is None:
            return
        found = {owned.id: (owned, detail) for owned, detail in await self._store.load(lease, missing)}
        for one in missing:
            owned, detail = found.get(one.id, (one, None))
            if detail is not None:
                await self._enliven(owned, detail)
            elif one.id in found:
                self._set_aside(one.id)
            else:
                self._owned.forget(one.id)

    async def _enliven(self, owned: Owned, detail: RunDetail) -> None:
        run = owned.id
        try:
            live = Live(owned, detail, await self._definitions.of(detail.summary))
        except StoreError:
            raise
        except Exception as error:
            # Its definition is gone, or of a later version.
            self._stand(run, error)
            return
        self._owned.live.add(run, live)
        self._owned.bind(run, live)
        if run in self._owned.unsure:
            self._adopt(run, live)
            self._owned.unsure.discard(run)

    def _stand(self, run: str, error: Exception) -> None:
        """One run that cannot be moved is no reason to stop the others."""
        _log.error("workflow_run_stuck", exc_info=error, run=run)
        self._set_aside(run)

    def _set_aside(self, run: str) -> None:
        self._owned.stuck.add(run)
        self._owned.forget(run)

    def _adopt(self, run: str, live: Live) -> None:
        """Ask for its attempts again; those that its last manager may still begin have to wait."""
        held_until_s = self._owned.hold(run)
        for one in adoptions(live.definition, live.state):
            runner = self._runners.get(one.runner)
            begun = live.state.rows[one.attempt.key].phase is AttemptStatus.RUNNING
            wait = held_until_s is not None and not begun and runner is not None and not runner.deduplicates
            self._effects.add(run, live.account, [one], held_until_s if wait else None)

    def _advance(self, run: str, now_ms: int, *, others: bool) -> Move | None:
        """All that was told to a run, or that its time has come; None: it cannot be moved."""
        live = self._owned.live.find(run)
        if live is None:
            return None
        told = self._owned.take_told(run)
        if live.state.status is RunStatus.QUEUED:
            told = deque(one for one in told if not isinstance(one.happening, Tick))
            if not any(isinstance(one.happening, Cancel) for one in told):
                told.appendleft(Told(Begin()))
        try:
            move = self._slices.advance(run, live, told, now_ms, others=others)
        except Exception as error:
            self._stand(run, error)
            return None
        self._owned.put_back(run, told)
        return move
