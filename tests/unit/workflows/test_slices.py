"""One run's part of a turn: it ends in good time, and is counted."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from gateway.workflows import slices as module
from gateway.workflows.advance import advance
from gateway.workflows.figures import LATE_S, ManagerFigures
from gateway.workflows.live import Live
from gateway.workflows.records import Owned, RunDetail, RunSummary
from gateway.workflows.run import Attempt, Key, State
from gateway.workflows.slices import MAX_HAPPENINGS, SLICE_S, Slices, Told
from gateway.workflows.states import RunStatus
from gateway.workflows.step import Begin, Finished, Happening
from tests.support.fake_clock import FakeClock
from tests.support.workflows import START_MS, definition, node


def live(items: int = 1) -> Live:
    made = definition({"a": node(for_each={"items": list(range(items)), "max_parallel": items})})
    state = State("r", "test", 1, {})
    summary = RunSummary("r", "acme", "test", 1, RunStatus.QUEUED, 0, None, 0, None, None, None, 0)
    return Live(Owned("r", "acme", 1, None), RunDetail(summary, state, None), made)


class Costly:
    """Each call of `advance` takes so long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost_s: float) -> None:
        self.clock = FakeClock()
        self.figures = ManagerFigures()
        self.slices = Slices(self.clock, 60, self.figures)
        self.calls = 0
        usual = advance

        def slow(*arguments: Any) -> Any:
            self.calls += 1
            self.clock.advance(cost_s)
            return usual(*arguments)

        monkeypatch.setattr(module, "advance", slow)


@pytest.mark.parametrize(("cost_s", "calls"), [(0.0, MAX_HAPPENINGS), (0.02, 3), (0.3, 1)])
def test_a_run_has_its_slice_and_no_more(monkeypatch: pytest.MonkeyPatch, cost_s: float, calls: int) -> None:
    costly = Costly(monkeypatch, cost_s)
    told = deque([Told(Begin(), number) for number in range(200)])
    move = costly.slices.advance("r", live(), told, START_MS, others=True)
    assert costly.calls == calls == len(move.taken) == len(move.folding.heard)
    assert len(told) == 200 - calls
    assert costly.figures.slow_calls == (cost_s > SLICE_S)
    assert costly.figures.stood == (cost_s > 0.2)


def test_what_is_left_of_a_large_step_comes_behind_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    costly = Costly(monkeypatch, 0.03)
    told = deque([Told(Begin(), 1), Told(Begin(), 2), Told(Begin(), 3)])
    run = live(items=600)
    move = costly.slices.advance("r", run, told, START_MS, others=True)
    assert [one.signal for one in move.taken] == [1, 2]
    assert [one.signal for one in told] == [3, None]


def test_a_run_that_is_told_nothing_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    costly = Costly(monkeypatch, 0.0)
    move = costly.slices.advance("r", live(), deque(), START_MS, others=True)
    assert (costly.calls, move.folding.is_empty) == (1, True)


def test_only_time_that_others_wait_for_makes_a_hog(monkeypatch: pytest.MonkeyPatch) -> None:
    costly = Costly(monkeypatch, 1.0)
    for _ in range(100):
        costly.slices.advance("r", live(), deque(), START_MS, others=False)
    assert costly.figures.hogs == 0
    for _ in range(60):
        costly.slices.advance("r", live(), deque(), START_MS, others=True)
    assert costly.figures.hogs == 1
    assert costly.slices.loop_time.hog(costly.clock.monotonic_s()) == "r"


def test_late_timers_are_counted_by_how_late() -> None:
    figures = ManagerFigures()
    for late_s in (-0.001, 0.01, 0.0101, 80.0):
        figures.timer(late_s)
    assert figures.late == [2, 1, *[0] * (len(LATE_S) - 2), 1]
    assert figures.late_s == pytest.approx(80.0201)


def test_a_run_has_room_for_so_many_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RUN_BYTES", 33_000_000)
    slices = Slices(FakeClock(), 60, ManagerFigures())
    run = live(items=4)
    result = {"text": "x" * 5_000_000}
    happenings: list[Happening] = [Begin(), *(Finished(Attempt("a", number, 1), result) for number in range(3))]
    happenings.append(Finished(Attempt("a", 3, 1), {"text": "small"}))
    state = slices.advance("r", run, deque(Told(one) for one in happenings), START_MS, others=True).folding.state
    rows = [state.rows[Key("a", number)] for number in range(4)]
    assert [row.status.value for row in rows] == ["ok", "ok", "failed", "ok"]
    assert "would take more than" in str(rows[2].error)
