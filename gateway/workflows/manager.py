"""The manager: one process that moves many runs on.

A turn: hear what was told to runs, advance those with something to do, store all that in one transaction, and only then
let it have effects. A run whose change is not stored belongs to somebody else by now, and is forgotten. When the store
fails, nobody knows what it has; then the runs concerned are read again, and what was reported is applied once more.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import AttemptTakenError, IllegalTransitionError, StoreError
from gateway.telemetry.log import Log
from gateway.workflows.adopting import adoptions
from gateway.workflows.advance import advance
from gateway.workflows.definition import Definition, load
from gateway.workflows.effects import Effects
from gateway.workflows.folding import Folding
from gateway.workflows.hearing import happening_of
from gateway.workflows.holding import Holding, Periods
from gateway.workflows.live import Live, LiveRuns
from gateway.workflows.ports import NodeRunner, WorkflowStore
from gateway.workflows.records import Change, Owned, RunDetail, Signal
from gateway.workflows.states import NodeStatus, is_run_over
from gateway.workflows.step import Happening, Progress, Tick
from gateway.workflows.waiting import Waiting

BATCH_RUNS = 256
POLL_S = 1.0
MAX_HEARD = 1_000
MAX_CLAIMED = 1_000
# Of one run in one turn: the others have theirs, too.
MAX_HAPPENINGS = 64
DEFINITIONS = 256
_AT_WORK = (NodeStatus.RUNNING, NodeStatus.STOPPING)
_log = Log("workflows")


class Told(NamedTuple):
    """Something that happened to a run; `signal` is the id of the signal that said so, if one did."""

    happening: Happening
    signal: int | None = None


class _Move(NamedTuple):
    """What a run is about to become, and what it was told."""

    folding: Folding
    taken: list[Told]


class Manager:
    """`start`, then `run`. `moved` is told the run and account of each commit: its events can be read."""

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
        moved: Callable[[str, str], None] = lambda run, account: None,
    ) -> None:
        self.name = name
        self._store = store
        self._clock = clock
        self._incarnation = incarnation
        self._moved = moved
        self._turns_done = 0
        self._holding = Holding(store, clock, Periods.of(lease_s), lambda: self._turns_done)
        self._effects = Effects(runners, store, clock, self.report, self._holding.may_act)
        self._owned: dict[str, int] = {}
        self._live = LiveRuns(cache_bytes)
        self._told: dict[str, deque[Told]] = {}
        self._waiting = Waiting()
        # Runs whose attempts have to be asked for again: after a start, and after a failure of the store.
        self._unsure: set[str] = set()
        # Those that no step can be made of; whoever looks at the log has to mend something.
        self._stuck: set[str] = set()
        self._heard: set[int] = set()
        self._definitions: OrderedDict[tuple[str, str, int], Definition] = OrderedDict()
        self._something = asyncio.Event()
        self._poll_at_s = 0.0

    # What others say

    def report(self, run: str, happening: Happening) -> None:
        """A runner tells what became of an attempt. What is not ours is dropped: its manager asks for itself."""
        if run not in self._owned:
            return
        told = self._told.setdefault(run, deque())
        if isinstance(happening, Progress) and told:
            last = told[-1].happening
            if isinstance(last, Progress) and last.attempt == happening.attempt:
                told.pop()
        told.append(Told(happening))
        self._something.set()

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
            self._own(owned)
            if owned.id in at_work or owned.wake_ms is None:
                self._unsure.add(owned.id)
        _log.info("workflow_manager_started", manager=self.name, fence=lease.fence, runs=len(self._owned))

    async def run(self) -> None:
        """Until cancelled. A lease that is lost is followed by a new life, which begins without any run."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._effects.run(), name="workflow effects")
            group.create_task(self._turns(), name="workflow turns")
            group.create_task(self._hold(), name="workflow lease")

    async def _hold(self) -> None:
        while True:
            await self._holding.keep()
            await asyncio.sleep(POLL_S)

    async def _begin_again(self) -> None:
        """The lease was lost: nothing that is known here counts any more."""
        self._effects.clear()
        for run in [*self._owned, *self._told]:
            self._forget(run)
        await self.start(again=True)

    async def retire(self) -> None:
        """Let others have the runs at once; not after `run` was cancelled by a crash. Raises StoreError."""
        await self._holding.end()

    async def _turns(self) -> None:
        while True:
            self._turns_done += 1
            try:
                if self._holding.lease is None:
                    await self._begin_again()
                await self._hear()
                busy = await self._turn()
            except StoreError as error:
                _log.warning("workflow_store_away", message=str(error))
                await asyncio.sleep(POLL_S)
                continue
            if not busy:
                await self._rest()

    async def _rest(self) -> None:
        """Until something is told, a run is due, or it is time to look for signals."""
        pause_s = self._poll_at_s - self._clock.monotonic_s()
        due_ms = self._waiting.next_ms()
        if due_ms is not None:
            pause_s = min(pause_s, (due_ms - self._clock.time_ms()) / 1000)
        if pause_s > 0 and not self._something.is_set():
            try:
                async with asyncio.timeout(pause_s):
                    await self._something.wait()
            except TimeoutError:
                pass
        self._something.clear()

    async def _hear(self) -> None:
        """Signals that were stored since, and runs that nobody has."""
        lease = self._holding.lease
        if self._clock.monotonic_s() < self._poll_at_s or lease is None:
            return
        self._poll_at_s = self._clock.monotonic_s() + POLL_S
        for owned in await self._store.claim(lease, MAX_CLAIMED):
            self._own(owned)
            self._unsure.add(owned.id)
        heard = await self._store.signals(lease, MAX_HEARD)
        for owned, signal in heard:
            if signal.id not in self._heard and owned.id not in self._stuck:
                self._hear_one(owned, signal)
        if len(heard) == MAX_HEARD:
            self._poll_at_s = 0.0

    def _hear_one(self, owned: Owned, signal: Signal) -> None:
        if owned.id not in self._owned:
            self._own(owned)
        self._heard.add(signal.id)
        self._told.setdefault(owned.id, deque()).append(Told(happening_of(signal), signal.id))

    def _own(self, owned: Owned) -> None:
        self._owned[owned.id] = owned.epoch
        self._waiting.set(owned.id, owned.wake_ms)

    # A turn

    async def _turn(self) -> bool:
        """Move some runs on; whether there were any."""
        now_ms = self._clock.time_ms()
        chosen = dict.fromkeys(self._waiting.due(now_ms, BATCH_RUNS))
        for source in (self._told, self._unsure):
            for run in source:
                if len(chosen) >= BATCH_RUNS:
                    break
                chosen[run] = None
        if not chosen:
            return False
        try:
            await self._bring(chosen)
        except StoreError:
            self._again(chosen)
            raise
        await self._commit({run: move for run in chosen if (move := self._advance(run, now_ms)) is not None}, now_ms)
        self._live.evict(self._told)
        return True

    async def _bring(self, chosen: Iterable[str]) -> None:
        """Into memory those that are not there; what is not ours any more is forgotten."""
        lease = self._holding.lease
        missing = [
            Owned(run, self._owned[run], None) for run in chosen if run in self._owned and self._live.find(run) is None
        ]
        if not missing or lease is None:
            return
        found = {owned.id: (owned, detail) for owned, detail in await self._store.load(lease, missing)}
        for one in missing:
            if one.id not in found:
                self._forget(one.id)
                continue
            owned, detail = found[one.id]
            definition = await self._definition(detail)
            live = Live(owned, detail, definition)
            self._live.add(one.id, live)
            if one.id in self._unsure:
                self._effects.add(one.id, live.account, adoptions(definition, live.state))
            self._unsure.discard(one.id)

    async def _definition(self, detail: RunDetail) -> Definition:
        summary = detail.summary
        key = (summary.account, summary.name, summary.version)
        if key not in self._definitions:
            stored = await self._store.definition(*key)
            if stored is None:
                raise StoreError(f"the definition {summary.name} {summary.version} of the run {summary.id} is missing")
            self._definitions[key] = load(stored.spec)
            if len(self._definitions) > DEFINITIONS:
                self._definitions.popitem(last=False)
        self._definitions.move_to_end(key)
        return self._definitions[key]

    def _advance(self, run: str, now_ms: int) -> _Move | None:
        """All that was told to a run, or that its time has come; None: it cannot be moved."""
        live = self._live.find(run)
        if live is None:
            return None
        told = self._told.pop(run, deque())
        taken = [told.popleft() for _ in range(min(len(told), MAX_HAPPENINGS))] or [Told(Tick())]
        if told:
            self._told[run] = told
        move = _Move(Folding(live.state), taken)
        try:
            for one in taken:
                self._apply(run, live, move.folding, one, now_ms)
        except Exception as error:
            # One run that cannot be moved is no reason to stop the others.
            _log.error("workflow_run_stuck", exc_info=error, run=run)
            self._stuck.add(run)
            self._forget(run)
            return None
        return move

    def _apply(self, run: str, live: Live, folding: Folding, told: Told, now_ms: int) -> None:
        if told.signal is not None:
            folding.heard.append(told.signal)
        try:
            step = advance(live.definition, folding.state, told.happening, now_ms)
        except IllegalTransitionError as error:
            _log.info("workflow_signal_ignored", run=run, message=str(error))
            return
        folding.add(step)
        if step.more:
            self._told.setdefault(run, deque()).append(Told(Tick()))

    async def _commit(self, moves: dict[str, _Move], now_ms: int) -> None:
        changes: list[Change] = []
        for run, move in moves.items():
            live = self._live.get(run)
            if move.folding.is_empty:
                self._settle(run, live, move.folding)
            else:
                changes.append(move.folding.change(live.epoch, live.account, live.depth, live.parent, now_ms))
        if changes:
            await self._store_all(changes, moves, now_ms)

    async def _store_all(self, changes: list[Change], moves: dict[str, _Move], now_ms: int) -> None:
        lease = self._holding.lease
        try:
            # Whose lease was lost in between has nothing to store.
            stored = await self._store.commit(lease, changes, now_ms) if lease is not None else set()
        except AttemptTakenError as error:
            await self._one_by_one(changes, moves, now_ms, error)
            return
        except (StoreError, asyncio.CancelledError):
            for change in changes:
                self._take_back(change.state.id, moves[change.state.id])
            raise
        for change in changes:
            run = change.state.id
            self._heard.difference_update(change.heard)
            if run not in stored:
                _log.info("workflow_run_lost", run=run)
                self._forget(run)
                continue
            live = self._live.get(run)
            self._settle(run, live, moves[run].folding)
            self._moved(run, live.account)

    async def _one_by_one(
        self, changes: list[Change], moves: dict[str, _Move], now_ms: int, error: AttemptTakenError
    ) -> None:
        """One of them begins an attempt that another engine has begun: the others must not wait for it."""
        if len(changes) > 1:
            for change in changes:
                await self._store_all([change], moves, now_ms)
            return
        run = changes[0].state.id
        _log.error("workflow_attempt_taken", run=run, message=str(error))
        self._stuck.add(run)
        self._forget(run)

    def _settle(self, run: str, live: Live, folding: Folding) -> None:
        """It is stored: now it may have effects."""
        state = folding.state
        self._live.grow(run, live, folding.grown_bytes)
        live.state = state
        self._effects.add(run, live.account, folding.commands)
        if is_run_over(state.status):
            if run not in self._told:
                self._forget(run)
            return
        self._waiting.set(run, state.wake_ms)
        if run not in self._told and not any(state.rows[key].status in _AT_WORK for key in state.active):
            self._live.drop(run)

    def _take_back(self, run: str, move: _Move) -> None:
        """The store failed: nobody knows what it has. What was told is told again; a second time it changes nothing."""
        self._told.setdefault(run, deque()).extendleft(reversed(move.taken))
        self._live.drop(run)
        self._unsure.add(run)

    def _again(self, runs: Iterable[str]) -> None:
        for run in runs:
            if run in self._owned and run not in self._told:
                self._told[run] = deque([Told(Tick())])

    def _forget(self, run: str) -> None:
        """It is over, or somebody else's."""
        self._live.drop(run)
        self._owned.pop(run, None)
        for one in self._told.pop(run, ()):
            if one.signal is not None:
                self._heard.discard(one.signal)
        self._waiting.set(run, None)
        self._unsure.discard(run)
