"""One run's part of a turn: what it was told is applied until it has had its slice of the loop's time."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import IllegalTransitionError
from gateway.telemetry.log import Log
from gateway.workflows.advance import advance
from gateway.workflows.figures import ManagerFigures
from gateway.workflows.folding import Folding, value_weight
from gateway.workflows.live import Live
from gateway.workflows.loop_time import LoopTime
from gateway.workflows.records import Change
from gateway.workflows.step import Failed, Finished, Happening, Tick

# Of one run in one turn: the others have theirs, too.
MAX_HAPPENINGS = 64
SLICE_S = 0.05
# What one run may take in memory, a third of it as JSON: a manager has many, and none can move on without its results.
MAX_RUN_BYTES = 100_663_296
# Whoever holds the loop up for so long is named.
STANDS_S = 0.2
_log = Log("workflows")


class Told(NamedTuple):
    """Something that happened to a run; `signal` is the id of the signal that said so, if one did."""

    happening: Happening
    signal: int | None = None


class Move(NamedTuple):
    """What a run in memory is about to become, and what it was told."""

    live: Live
    folding: Folding
    taken: list[Told]

    def change(self, now_ms: int) -> Change:
        """What has to be stored."""
        live = self.live
        return self.folding.change(live.epoch, live.account, live.depth, live.parent, now_ms)


class Slices:
    """`hog_s`: see LoopTime."""

    def __init__(self, clock: Clock, hog_s: float, figures: ManagerFigures) -> None:
        self._clock = clock
        self._figures = figures
        self.loop_time = LoopTime(hog_s)

    def advance(self, run: str, live: Live, told: deque[Told], now_ms: int, *, others: bool) -> Move:
        """Apply some of what it was told, or that its time has come; the rest stays in `told`.

        `others`: somebody waits meanwhile. Whatever it raises is a fault of this run alone.
        """
        began_s = self._clock.monotonic_s()
        move = Move(live, Folding(live.state), [])
        before_s = began_s
        while not move.taken or (told and len(move.taken) < MAX_HAPPENINGS and before_s - began_s < SLICE_S):
            one = told.popleft() if told else Told(Tick())
            move.taken.append(one)
            if self._apply(run, live, move.folding, one, now_ms):
                told.append(Told(Tick()))
            after_s = self._clock.monotonic_s()
            self._judge(run, after_s - before_s)
            before_s = after_s
        if others and self.loop_time.spent(run, before_s - began_s, before_s):
            self._figures.hogs += 1
            _log.warning("workflow_run_hogs", run=run, times=self.loop_time.hogs)
        return move

    def _judge(self, run: str, took_s: float) -> None:
        if took_s > SLICE_S:
            self._figures.slow_calls += 1
        if took_s > STANDS_S:
            self._figures.stood += 1
            _log.warning("workflow_loop_stood", run=run, took_s=round(took_s, 3))

    @staticmethod
    def _apply(run: str, live: Live, folding: Folding, told: Told, now_ms: int) -> bool:
        """Whether it wants another call."""
        if told.signal is not None:
            folding.heard.append(told.signal)
        happening = _bounded(told.happening, live.bytes + folding.grown_bytes)
        try:
            step = advance(live.definition, folding.state, happening, now_ms)
        except IllegalTransitionError as error:
            _log.info("workflow_signal_ignored", run=run, message=str(error))
            return False
        folding.add(step)
        return step.more


def _bounded(happening: Happening, run_bytes: int) -> Happening:
    """The same, if its run has room for what came out."""
    if not isinstance(happening, Finished) or run_bytes + value_weight(happening.value) <= MAX_RUN_BYTES:
        return happening
    said = f"the results of its run would take more than {MAX_RUN_BYTES // 3_145_728} MiB"
    return Failed(happening.attempt, said, again=False)
