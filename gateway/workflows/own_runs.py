"""The runs of one manager, and what it knows of each of them beside its state."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from gateway.clock import Clock
from gateway.rotation import Next, Rotation
from gateway.waiting import Waiting
from gateway.workflows.figures import ManagerFigures
from gateway.workflows.hearing import happening_of
from gateway.workflows.live import Live, LiveRuns, fresh
from gateway.workflows.ports import NodeRunner
from gateway.workflows.records import NewRun, Owned, RunDetail, Signal
from gateway.workflows.slices import MAX_HAPPENINGS, Told
from gateway.workflows.states import AttemptStatus, NodeStatus
from gateway.workflows.step import Begin, Cancel, Happening, Progress, Resume, Tick

# Of new runs: what is more than these is read from the store.
MAX_FRESH = 4_096
# What comes first of an account.
_ORDERED, _DUE, _TOLD = range(3)
# Timers that are looked at in one turn.
MAX_DUE = 10_000
AT_WORK = (NodeStatus.RUNNING, NodeStatus.STOPPING)


class _Own(NamedTuple):
    account: str
    epoch: int


# Thousands of runs have the same.
_shared = lru_cache(maxsize=4_096)(_Own)


class OwnRuns:
    """Iterates over their ids.

    `told` is what was told to runs and is not yet decided. `unsure` are those whose attempts have to be asked for
    again: after a start, and after a failure of the store. `stuck` are those that no step can be made of; whoever looks
    at the log has to mend something. `storing` are those whose change is on its way to the store.
    `hungry`: what others were told may be heard now.
    """

    def __init__(self, clock: Clock, cache_bytes: int, runners: Mapping[str, NodeRunner]) -> None:
        self.live = LiveRuns(cache_bytes)
        self.told: dict[str, deque[Told]] = {}
        self.unsure: set[str] = set()
        self.stuck: set[str] = set()
        self.storing: set[str] = set()
        self._clock = clock
        self._runners = runners
        self._own: dict[str, _Own] = {}
        # Those that were told something, are unsure, or are due (since when, in ms): to be moved on.
        self._ready: Rotation[str, int | None] = Rotation(3)
        # Those that were told more than they take in one turn, and whether one of them has got through it.
        self._laden: set[str] = set()
        self.hungry = False
        self._waiting = Waiting()
        # As they were created: what is in memory need not be read.
        self._fresh: dict[str, RunDetail] = {}
        # Those with work that nobody else could go on with.
        self._bound: set[str] = set()
        # Until when, by the monotonic clock, the last manager of a run may still begin its jobs.
        self._held: dict[str, float] = {}
        self._heard: set[int] = set()

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def __contains__(self, run: str) -> bool:
        return run in self._own

    def epoch(self, run: str) -> int | None:
        """None: it is not ours."""
        own = self._own.get(run)
        return None if own is None else own.epoch

    def owned(self, run: str) -> Owned | None:
        """As the store is asked for it; None: it is not ours."""
        own = self._own.get(run)
        return None if own is None else Owned(run, own.account, own.epoch, None)

    # Having them

    def own(self, owned: Owned) -> None:
        """It is ours from now on."""
        self._own[owned.id] = _shared(owned.account, owned.epoch)
        self._waiting.set(owned.id, owned.wake_ms)
        if owned.hold_ms:
            self._held[owned.id] = self._clock.monotonic_s() + owned.hold_ms / 1000

    def begin(self, new: NewRun, version: int | None) -> None:
        """It was just created, and is ours; `version` None: its definition's is not known."""
        if new.id in self._own:
            return
        self.own(Owned(new.id, new.account, 1, None))
        if version is not None and len(self._fresh) < MAX_FRESH:
            self._fresh[new.id] = fresh(new, version)
        self._put(new.id, deque([Told(Tick())]))

    def take_fresh(self, run: str) -> RunDetail | None:
        """As it was created, once; None: the store has to be asked."""
        return self._fresh.pop(run, None)

    def forget(self, run: str) -> None:
        """It is over, or somebody else's."""
        self.live.drop(run)
        self._own.pop(run, None)
        self._laden.discard(run)
        self._fresh.pop(run, None)
        for one in self.take_told(run):
            if one.signal is not None:
                self._heard.discard(one.signal)
        self._waiting.set(run, None)
        self.unsure.discard(run)
        self._bound.discard(run)
        self._held.pop(run, None)

    def forget_all(self) -> None:
        """Nothing that is known counts any more."""
        for run in [*self._own, *self.told]:
            self.forget(run)

    def hold(self, run: str) -> float | None:
        """Until when its last manager may begin jobs, asked once; None: it cannot."""
        return self._held.pop(run, None)

    # What they are told

    def tell(self, run: str, happening: Happening) -> None:
        """Of how far an attempt is only the newest word counts."""
        told = self.told.get(run) or deque()
        if isinstance(happening, Progress) and told:
            last = told[-1].happening
            if isinstance(last, Progress) and last.attempt == happening.attempt:
                told.pop()
        told.append(Told(happening))
        self._put(run, told)

    def hear(self, owned: Owned, signal: Signal) -> None:
        """What was stored for it; harmless again."""
        if signal.id in self._heard or owned.id in self.stuck:
            return
        heard = Told(happening_of(signal), signal.id)
        if owned.id not in self._own:
            self.own(owned)
        self._heard.add(signal.id)
        told = self.told.get(owned.id) or deque()
        urgent = isinstance(heard.happening, Cancel)
        if urgent:
            told.insert(_behind_orders(told), heard)
        else:
            told.append(heard)
        if len(told) >= MAX_HAPPENINGS:
            self._laden.add(owned.id)
        self._put(owned.id, told, _ORDERED if urgent else _TOLD)

    def doubt(self, run: str) -> None:
        """Its attempts have to be asked for again."""
        self.unsure.add(run)
        self._put(run, None)

    def take_told(self, run: str) -> deque[Told]:
        """All that it was told; it is to be decided now."""
        return self.told.pop(run, None) or deque()

    def put_back(self, run: str, told: deque[Told]) -> None:
        """What of that it had no time for."""
        if told:
            self._put(run, told)
        if run in self._laden and len(told) < MAX_HAPPENINGS:
            self._laden.discard(run)
            self.hungry = True

    def _put(self, run: str, told: deque[Told] | None, rank: int = _TOLD, *, first: bool = False) -> None:
        if told is not None:
            self.told[run] = told
        own = self._own.get(run)
        if own is not None:
            self._ready.put(own.account, run, None, rank, first=first)

    @property
    def deaf(self) -> Collection[str]:
        """Those that need hear nothing now but orders: they stand, or have more to do than one turn allows. Thousands
        of signals for them must not hide what others are told."""
        return self.stuck | self._laden

    def heard(self, signals: Iterable[int]) -> None:
        """They are gone from the store; one that is not is heard again."""
        self._heard.difference_update(signals)

    def again(self, runs: Iterable[str]) -> None:
        """They were chosen in vain: the next turn has them, before the others."""
        for run in reversed(list(runs)):
            if run in self._own:
                self._put(run, self.told.get(run) or deque([Told(Tick())]), _ORDERED, first=True)

    def retell(self, run: str, taken: Iterable[Told]) -> None:
        """What was decided may not be stored.

        What was reported changes nothing a second time. Signals would (a cancel, behind a resume that is stored): those
        that the store still has are heard again, in their order. That the run has to begin is seen from its state.
        """
        told = [*taken, *self.take_told(run)]
        self.heard(one.signal for one in told if one.signal is not None)
        again = [one for one in told if one.signal is None and not isinstance(one.happening, Begin)]
        self.put_back(run, deque(again or [Told(Tick())]))
        self.live.drop(run)
        self.doubt(run)

    # When they are looked at

    @property
    def waiting(self) -> int:
        """How many wait for a time."""
        return len(self._waiting)

    @property
    def next_ms(self) -> int | None:
        """When the first of those is due."""
        return self._waiting.next_ms()

    def wake(self, run: str, at_ms: int | None) -> None:
        """None: only when it is told something."""
        self._waiting.set(run, at_ms)

    def choose(self, now_ms: int, limit: int, figures: ManagerFigures) -> dict[str, None]:
        """Those to be moved on now, of each account in turn: what was ordered, what is due, what is reported.

        What is due of one that is being stored is known again behind that.
        """
        for at_ms, run in self._waiting.due(now_ms, MAX_DUE):
            if run not in self.storing and (own := self._own.get(run)) is not None:
                self._ready.put(own.account, run, at_ms, _DUE)
        chosen: dict[str, None] = {}
        later: list[Next[str, int | None]] = []
        while len(chosen) < limit and self._ready:
            one = self._ready.take()
            run, due_ms = one.key, one.value
            if run not in self._own:
                continue
            if run in self.storing:
                later.append(one)
            elif due_ms is not None or run in self.told or run in self.unsure:
                chosen[run] = None
                if due_ms:
                    figures.timer((now_ms - due_ms) / 1000)
        for one in reversed(later):
            self._ready.put(*one, first=True)
        return chosen

    # Whether others could have them

    def bind(self, run: str, live: Live) -> None:
        """Note whether it has work that nobody else could go on with."""
        for key in live.state.active:
            if live.state.rows[key].status in AT_WORK:
                runner = self._runners.get(live.definition.runners[key.path])
                asked = live.state.rows[key].phase is AttemptStatus.INTENT
                if runner is not None and (asked or not runner.movable):
                    self._bound.add(run)
                    return
        self._bound.discard(run)

    def at_boundary(self, run: str) -> bool:
        """Nothing is being decided or stored, and nothing is at work that cannot move."""
        busy = run in self._bound or run in self.unsure or run in self.told or run in self.storing
        return run in self._own and not busy


def _behind_orders(told: deque[Told]) -> int:
    """Where a cancel belongs: behind what else was ordered, before what is reported of attempts. There may be thousands
    of those, and each begins more."""
    orders = [place for place, one in enumerate(told) if isinstance(one.happening, Begin | Cancel | Resume)]
    return orders[-1] + 1 if orders else 0
