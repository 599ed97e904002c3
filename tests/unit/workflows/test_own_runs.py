"""What a manager knows of its runs beside their states: what was told, once and in order."""

from __future__ import annotations

from gateway.workflows.figures import ManagerFigures
from gateway.workflows.own_runs import OwnRuns
from gateway.workflows.records import Owned, Signal, SignalKind
from gateway.workflows.run import Attempt
from gateway.workflows.slices import MAX_HAPPENINGS, Told
from gateway.workflows.step import Begin, Cancel, Failed, Resume, Tick
from tests.support.fake_clock import FakeClock

OWNED = Owned("r", "acme", 1, None)
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
    assert list(runs.told["r"]) == [Told(Cancel("why"), 7), Told(FAILED), Told(Resume(), 8)]


def test_a_run_whose_signals_are_asked_for_again_is_looked_at() -> None:
    runs = own_runs()
    runs.retell("r", [Told(Begin()), Told(Resume(), 8)])
    assert list(runs.told["r"]) == [Told(Tick())]


def crowd(accounts: dict[str, int]) -> OwnRuns:
    """So many runs of each account, all of them told something."""
    runs = OwnRuns(FakeClock(), 1 << 20, {})
    for account, count in accounts.items():
        for number in range(count):
            runs.own(Owned(f"{account}{number}", account, 1, None))
            runs.tell(f"{account}{number}", FAILED)
    return runs


def chosen(runs: OwnRuns, limit: int, now_ms: int = 0) -> list[str]:
    return list(runs.choose(now_ms, limit, ManagerFigures()))


def test_runs_of_one_account_hold_up_no_other() -> None:
    runs = crowd({"a": 1_000, "b": 2, "c": 1})
    assert chosen(runs, 5) == ["a0", "b0", "c0", "a1", "b1"]


def test_what_was_chosen_in_vain_comes_first() -> None:
    runs = crowd({"a": 9})
    assert chosen(runs, 4) == ["a0", "a1", "a2", "a3"]
    runs.again(["a1", "a2", "a3"])
    assert chosen(runs, 4) == ["a1", "a2", "a3", "a4"]


def test_a_run_that_is_being_stored_keeps_its_place() -> None:
    runs = crowd({"a": 4})
    runs.storing |= {"a0", "a2"}
    assert chosen(runs, 9) == ["a1", "a3"]
    runs.storing.clear()
    assert chosen(runs, 9) == ["a0", "a2"]


def test_each_run_with_something_to_do_is_chosen_once() -> None:
    runs = crowd({"a": 3})
    runs.wake("a1", 500)
    runs.wake("a2", 900)
    runs.doubt("a0")
    runs.forget("a2")
    assert sorted(chosen(runs, 9, 1_000)) == ["a0", "a1"]
    runs.told.clear()
    runs.unsure.clear()
    runs.wake("a0", 2_000)
    assert chosen(runs, 9, 1_999) == []
    assert chosen(runs, 9, 2_000) == ["a0"]


def test_what_is_due_comes_before_what_is_reported() -> None:
    runs = crowd({"a": 3, "b": 1})
    for run, at_ms in (("a2", 900), ("a1", 800), ("b0", 700)):
        runs.wake(run, at_ms)
    assert chosen(runs, 9, 1_000) == ["a1", "b0", "a2", "a0"]


def test_a_timer_counts_although_what_was_reported_is_gone() -> None:
    runs = crowd({"a": 1})
    runs.told.clear()
    runs.wake("a0", 900)
    assert chosen(runs, 9, 1_000) == ["a0"]


def test_a_cancel_comes_before_what_is_reported_and_behind_what_was_ordered() -> None:
    runs = crowd({"a": 5})
    owned = Owned("a3", "a", 1, None)
    runs.hear(owned, Signal(1, "a3", SignalKind.RESUME, None))
    runs.tell("a3", FAILED)
    runs.hear(owned, Signal(2, "a3", SignalKind.CANCEL, "why"))
    assert list(runs.told["a3"]) == [Told(FAILED), Told(Resume(), 1), Told(Cancel("why"), 2), Told(FAILED)]
    assert chosen(runs, 2) == ["a3", "a0"]


def test_a_run_with_more_than_it_takes_in_a_turn_hears_no_more_until_then() -> None:
    runs = crowd({"a": 1, "b": 1})
    body = {"attempt": ["x", 0, 1], "status": "ok", "output": None, "error": None}
    for number in range(MAX_HAPPENINGS):
        runs.hear(Owned("a0", "a", 1, None), Signal(number, "a0", SignalKind.CHILD, body))
    assert (set(runs.deaf), runs.hungry) == ({"a0"}, False)
    told = runs.take_told("a0")
    told.popleft()
    runs.put_back("a0", told)
    assert (set(runs.deaf), runs.hungry) == ({"a0"}, False)
    for _ in range(5):
        told.popleft()
    runs.put_back("a0", told)
    assert (set(runs.deaf), runs.hungry) == (set(), True)
