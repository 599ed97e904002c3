"""Carrying out what was decided, once it is stored: runners are asked, nested runs are told."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import StoreError, UnstorableError
from gateway.rotation import Rotation
from gateway.telemetry.log import Log
from gateway.workflows.definition import WORKFLOW
from gateway.workflows.names import child_run
from gateway.workflows.ports import NodeRunner, Report, WorkflowStore
from gateway.workflows.records import SignalKind
from gateway.workflows.run import Attempt
from gateway.workflows.step import Adopt, Command, Failed, Proceed, StartChild, Stop, Submit

WORKERS = 16
# Nested runs that are told in one transaction.
MAX_CANCELS = 1_000
STANDS_S = 15.0
_PAUSE_S = 1.0
_Key = tuple[str, Attempt]
_Asked = Submit | Proceed | Stop | Adopt
_log = Log("workflows")


class _Effect(NamedTuple):
    run: str
    account: str
    command: _Asked

    @property
    def key(self) -> _Key:
        """Of those that have the same, one is under way at a time."""
        return self.run, self.command.attempt


class _Cancel(NamedTuple):
    """`child` is to be told."""

    run: str
    child: str
    why: str


class Effects:
    """Some at a time, of each account in turn; those of one attempt one after the other.

    `report` is told of an attempt that could not begin, `notice` of signals that were stored. Nothing is done while
    `may_act` says no: near its end a lease may be somebody else's by the time a runner is asked.
    """

    def __init__(
        self,
        runners: Mapping[str, NodeRunner],
        store: WorkflowStore,
        clock: Clock,
        report: Report,
        notice: Callable[[], None],
        may_act: Callable[[], bool],
    ) -> None:
        self._runners = runners
        self._store = store
        self._clock = clock
        self._report = report
        self._notice = notice
        self._may_act = may_act
        self._waiting: Rotation[_Key, _Effect] = Rotation()
        self._more = asyncio.Event()
        self._cancels: deque[_Cancel] = deque()
        self._more_cancels = asyncio.Event()
        # What follows the first effect of an attempt, which waits, is held until a time, or is under way.
        self._behind: dict[_Key, deque[_Effect]] = {}
        self._held: dict[_Key, tuple[_Effect, asyncio.TimerHandle]] = {}
        # How many of each run are not done.
        self._of_run: Counter[str] = Counter()
        self._moved_at_s = 0.0

    def add(
        self, run: str, account: str, commands: Iterable[Command | Adopt], not_before_s: float | None = None
    ) -> None:
        """Carry them out soon, or not before a monotonic time; later ones of the same attempt wait, too."""
        if not self._waiting:
            self._moved_at_s = self._clock.monotonic_s()
        for command in commands:
            if isinstance(command, StartChild) or command.runner == WORKFLOW:
                self._tell_child(run, command)
                continue
            effect = _Effect(run, account, command)
            self._of_run[run] += 1
            if effect.key in self._behind:
                self._behind[effect.key].append(effect)
                continue
            self._behind[effect.key] = deque()
            if not_before_s is None:
                self._waiting.put(account, effect.key, effect)
            else:
                pause_s = not_before_s - self._clock.monotonic_s()
                timer = asyncio.get_running_loop().call_later(pause_s, self._release, effect.key)
                self._held[effect.key] = effect, timer
        if self._waiting:
            self._more.set()

    def _tell_child(self, run: str, command: Command | Adopt) -> None:
        """It was stored with its parent; all that is left to do for it is to end it."""
        if isinstance(command, Stop):
            self._of_run[run] += 1
            self._cancels.append(_Cancel(run, child_run(run, command.attempt), command.reason))
            self._more_cancels.set()

    def _release(self, key: _Key) -> None:
        effect = self._held.pop(key)[0]
        self._waiting.put(effect.account, key, effect)
        self._more.set()

    def has(self, run: str) -> bool:
        """Whether something of a run is not done."""
        return run in self._of_run

    @property
    def stands(self) -> bool:
        """Whether nothing was done for long although there is something to do."""
        return bool(self._waiting) and self._clock.monotonic_s() - self._moved_at_s > STANDS_S

    def clear(self) -> None:
        """What was not begun is somebody else's to begin."""
        for effect, timer in self._held.values():
            timer.cancel()
            self._waiting.put(effect.account, effect.key, effect)
        self._held.clear()
        while self._waiting:
            effect = self._waiting.take().value
            self._count_down(effect.run)
            for follower in self._behind.pop(effect.key):
                self._count_down(follower.run)
        while self._cancels:
            self._count_down(self._cancels.popleft().run)
        # Those that are under way end by themselves, and nothing follows.
        for followers in self._behind.values():
            for follower in followers:
                self._count_down(follower.run)
            followers.clear()

    def _done(self, effect: _Effect) -> None:
        """The next of the same attempt has its turn."""
        self._count_down(effect.run)
        self._moved_at_s = self._clock.monotonic_s()
        behind = self._behind[effect.key]
        if behind:
            self._waiting.put(effect.account, effect.key, behind.popleft())
            self._more.set()
        else:
            del self._behind[effect.key]

    def _count_down(self, run: str) -> None:
        self._of_run[run] -= 1
        if self._of_run[run] <= 0:
            del self._of_run[run]

    async def run(self) -> None:
        """Until cancelled; what is under way then may or may not have begun, as after a crash."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"workflow effects {number}")
            group.create_task(self._cancel_children(), name="workflow cancels")

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._more.clear()
                await self._more.wait()
            if not self._may_act():
                await asyncio.sleep(_PAUSE_S)
                continue
            effect = self._waiting.take().value
            try:
                await self._carry_out(*effect)
            except Exception as error:
                # One bad attempt is no reason to stop the others.
                _log.error("workflow_effect_failed", exc_info=error, run=effect.run, node=effect.command.attempt.path)
                if not isinstance(effect.command, Stop):
                    said = f"could not be asked for: {type(error).__name__}: {error}"
                    self._report(effect.run, Failed(effect.command.attempt, said))
            finally:
                self._done(effect)

    async def _carry_out(self, run: str, account: str, command: _Asked) -> None:
        attempt = command.attempt
        runner = self._runners.get(command.runner)
        if runner is None:
            self._report(run, Failed(attempt, f"the runner {command.runner} is off here", again=False, lost=True))
        elif isinstance(command, Submit):
            await runner.submit(run, account, attempt, command.work)
        elif isinstance(command, Proceed):
            await runner.proceed(run, attempt)
        elif isinstance(command, Adopt):
            await runner.adopt(run, account, attempt, command.external, command.work, wanted=command.wanted)
        else:
            await runner.stop(run, attempt)

    async def _cancel_children(self) -> None:
        most = MAX_CANCELS
        while True:
            while not self._cancels:
                self._more_cancels.clear()
                await self._more_cancels.wait()
            some = [self._cancels.popleft() for _ in range(min(most, len(self._cancels)))]
            now_ms = self._clock.time_ms()
            try:
                await self._store.signals_told([(one.child, SignalKind.CANCEL, one.why) for one in some], now_ms)
            except UnstorableError as error:
                if len(some) > 1:
                    # One of them; the others are told one by one.
                    self._cancels.extendleft(reversed(some))
                    most = 1
                    continue
                _log.error("workflow_effect_failed", exc_info=error, run=some[0].run, node="")
            except StoreError as error:
                _log.warning("workflow_store_away", message=str(error))
                self._cancels.extendleft(reversed(some))
                await asyncio.sleep(_PAUSE_S)
                continue
            self._notice()
            for one in some:
                self._count_down(one.run)
            if not self._cancels:
                most = MAX_CANCELS
