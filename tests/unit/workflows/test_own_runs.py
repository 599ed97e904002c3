"""What a manager knows of its runs beside their states: what was told, once and in order."""

from __future__ import annotations

from gateway.workflows.own_runs import OwnRuns
from gateway.workflows.records import Owned, Signal, SignalKind
from gateway.workflows.run import Attempt
from gateway.workflows.slices import Told
from gateway.workflows.step import Begin, Cancel, Failed, Resume, Tick
from tests.support.fake_clock import FakeClock

OWNED = Owned("r", 1, None)
FAILED = Failed(Attempt("a", 0, 1), "broken")
CANCEL, RESUME = Signal(7, "r", SignalKind.CANCEL, "why"), Signal(8, "r", SignalKind.RESUME, None)


def own_runs() -> OwnRuns:
    made = OwnRuns(FakeClock(), 1 << 20, {})
    made.own(OWNED)
    return made


def test_a_signal_is_heard_once_until_the_store_failed() -> None:
    runs = own_runs()
    for _ in range(2):
        runs.hear(OWNED, CANCEL)
    assert list(runs.told["r"]) == [Told(Cancel("why"), 7)]
    taken = [Told(Begin()), *runs.told.pop("r"), Told(FAILED)]
    runs.hear(OWNED, RESUME)
    # What the store has of it is not known: it is asked for its signals, and the run's state says whether it has begun.
    runs.retell("r", taken)
    assert list(runs.told["r"]) == [Told(FAILED)]
    assert "r" in runs.unsure
    for signal in (CANCEL, RESUME):
        runs.hear(OWNED, signal)
    assert list(runs.told["r"]) == [Told(FAILED), Told(Cancel("why"), 7), Told(Resume(), 8)]


def test_a_run_whose_signals_are_asked_for_again_is_looked_at() -> None:
    runs = own_runs()
    runs.retell("r", [Told(Begin()), Told(Resume(), 8)])
    assert list(runs.told["r"]) == [Told(Tick())]
