"""The rules of `advance`, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import IllegalTransitionError
from gateway.workflows.advance import STOP_PATIENCE_S, loaded
from gateway.workflows.run import Attempt, Key
from gateway.workflows.step import Begin, Cancel, Failed, Finished, Progress, Resume, StartChild, Stop, Submitted
from tests.support.workflows import Player, definition, node

TABLES = {"tables": ["a", "b", "c", "d", "e"]}
EACH = {"items": "${extract.tables}", "as": "table", "max_parallel": 2}


@pytest.fixture(params=[False, True], ids=["kept", "reloaded"])
def reloading(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def play(nodes: dict[str, Any], reloading: bool = False, given: dict[str, Any] | None = None, **fields: Any) -> Player:
    return Player(definition(nodes, **fields), reloading=reloading, **(given or {})).begin()


def test_a_node_begins_when_all_that_it_needs_is_over(reloading: bool) -> None:
    run = play({"a": node(), "b": node(), "c": node(needs=["a", "b"])}, reloading)
    assert run.asked == ["a", "b"]
    assert run.finish("a").asked == ["b"]
    assert run.finish("b").asked == ["c"]
    assert run.finish("c").state.status == "ok"
    assert run.kinds() == [
        "run_started",
        *["attempt_started"] * 2,
        "node_ok",
        "node_ok",
        "attempt_started",
        "node_ok",
        "run_ok",
    ]


def test_an_attempt_is_intent_and_then_what_its_runner_says() -> None:
    run = play({"a": node()})
    attempt = run.open[next(iter(run.open))]
    assert run.state.rows[attempt.key].phase == "intent"
    run.tell(Submitted(attempt, "pid 7")).tell(Progress(attempt, 50.0, "half"))
    row = run.state.rows[attempt.key]
    assert (row.phase, row.external) == ("running", "pid 7")
    before = run.state
    run.tell(Submitted(attempt, "pid 8"))
    assert run.state == before


@pytest.mark.parametrize(
    "late", [Finished(Attempt("a", 0, 1)), Failed(Attempt("a", 0, 1), "x"), Finished(Attempt("a", 0, 9))]
)
def test_what_is_late_doubled_or_foreign_changes_nothing(late: Any) -> None:
    run = play({"a": node(retry={"max_attempts": 2, "wait_s": 5}), "b": node()}).fail("a").wait(5)
    assert run.open[next(iter(run.open))].number == 2 or run.asked == ["a", "b"]
    before = run.state
    assert run.tell(late).state == before


def test_a_failed_attempt_is_followed_by_the_next_one_after_its_wait(reloading: bool) -> None:
    retry = {"max_attempts": 4, "wait_s": 10, "backoff": 3, "max_wait_s": 60}
    run = play({"a": node(retry=retry)}, reloading)
    for pause_s in (10, 30, 60):
        run.fail("a")
        assert run.state.rows[Key("a")].due_ms == run.now_ms + pause_s * 1000
        assert run.wait(pause_s - 0.001).asked == []
        assert run.wait(0.001).asked == ["a"]
    assert run.fail("a", error="again").state.status == "failed"
    assert run.state.error == "a: again"


def test_a_run_wakes_at_its_earliest_time_and_at_once_when_there_is_more_to_do() -> None:
    waiting = {"max_attempts": 2, "wait_s": 60}
    run = play({"a": node(retry=waiting), "b": node(timeout_s=90)}).fail("a")
    assert run.state.wake_ms == run.now_ms + 60_000
    assert loaded(run.definition, run.state).wake_ms == 0


def test_what_cannot_succeed_is_not_tried_again() -> None:
    assert play({"a": node(retry={"max_attempts": 9})}).fail("a", again=False).state.status == "failed"


def test_for_each_runs_as_many_at_once_as_it_may(reloading: bool) -> None:
    run = play({"extract": node(), "load": node(needs=["extract"], for_each=EACH)}, reloading)
    run.finish("extract", value=TABLES)
    assert run.asked == ["load", "load[1]"]
    assert run.finish("load", 1).asked == ["load", "load[2]"]
    for number in (0, 2, 3, 4):
        run.finish("load", number, value=number)
    assert run.state.status == "ok"
    assert run.status("load", -1) == "ok"


def test_an_item_sees_itself() -> None:
    work = {"process": {"command": ["load", "${table}", "of ${run.name}"]}}
    run = play({"extract": node(), "load": {"run": work, "needs": ["extract"], "for_each": EACH}})
    run.finish("extract", value=TABLES)
    assert run.work("load")["command"] == ["load", "b", "of test"]


@pytest.mark.parametrize("value", [None, {}, {"tables": "abc"}, {"tables": [0] * 10_001}])
def test_items_that_are_no_list_fail_the_node(value: Any) -> None:
    run = play({"extract": node(), "load": node(needs=["extract"], for_each=EACH)}).finish("extract", value=value)
    assert run.state.status == "failed"
    assert run.state.error is not None
    assert run.state.error.startswith("load: ${extract")


def test_no_items_are_done_at_once() -> None:
    run = play({"extract": node(), "load": node(needs=["extract"], for_each=EACH)})
    assert run.finish("extract", value={"tables": []}).state.status == "ok"


@pytest.mark.parametrize(
    ("policy", "status", "items"), [("skip", "ok", 5), ("continue", "failed", 5), ("fail", "failed", 2)]
)
def test_what_the_failure_of_an_item_leads_to(policy: str, status: str, items: int, reloading: bool) -> None:
    nodes = {
        "extract": node(),
        "load": node(needs=["extract"], for_each=EACH, on_error=policy),
        "tell": node(needs=["load"], when="${load.failed} == 1"),
    }
    run = play(nodes, reloading).finish("extract", value=TABLES).fail("load", 0)
    while any(name.startswith("load") for name in run.asked):
        run.finish(*next((key.path, key.iteration) for key in run.open if key.path == "load"))
    assert sum(1 for key in run.state.rows if key.path == "load" and key.iteration >= 0) == items
    if policy != "fail":
        assert run.asked == ["tell"]
        run.finish("tell")
    assert run.state.status == status


@pytest.mark.parametrize(("policy", "status", "own"), [("skip", "ok", "skipped"), ("continue", "failed", "failed")])
def test_a_failure_that_does_not_end_the_run(policy: str, status: str, own: str) -> None:
    run = play({"a": node(on_error=policy), "b": node(needs=["a"])}).fail("a")
    assert run.asked == ["b"]
    assert run.finish("b").state.status == status
    assert run.status("a") == own


def test_after_a_failure_nothing_new_begins_and_waits_are_over() -> None:
    nodes = {"a": node(), "b": node(), "c": node(needs=["b"]), "d": node(retry={"max_attempts": 2, "wait_s": 900})}
    run = play(nodes).fail("d").fail("a")
    assert (run.state.status, run.status("d")) == ("failing", "failed")
    assert run.finish("b").state.status == "failed"
    assert run.status("c") is None


def test_a_condition_that_does_not_hold_skips_the_node_alone() -> None:
    run = play({"a": node(when="${input.full}"), "b": node(needs=["a"])}, given={"full": False})
    assert run.asked == ["b"]
    assert run.status("a") == "skipped"


def test_an_expression_without_a_value_fails_its_node_by_name() -> None:
    run = play({"a": node(when="${input.full} == 1")})
    assert run.state.error == "a: ${input} has no field 'full'"


def test_a_repeat_goes_on_until_its_condition_holds(reloading: bool) -> None:
    run = play({"poll": node(repeat={"until": "${poll.ready}", "wait_s": 30, "max_iterations": 5})}, reloading)
    assert run.finish("poll", value={"ready": False}).asked == []
    assert run.wait(30).asked == ["poll[1]"]
    run.finish("poll", 1, value={"ready": True, "n": 2})
    assert (run.state.status, run.status("poll", -1)) == ("ok", "ok")


def test_a_repeat_without_an_end_fails_and_goes_on_after_a_resume(reloading: bool) -> None:
    run = play({"poll": node(repeat={"until": "${poll.ready}", "max_iterations": 2})}, reloading)
    run.finish("poll", value={"ready": False}).wait(0).finish("poll", 1, value={"ready": False})
    assert run.state.error == "poll: ${poll.ready} did not hold after 2 iterations"
    run.tell(Resume())
    assert run.asked == ["poll[2]"]
    assert run.finish("poll", 2, value={"ready": True}).state.status == "ok"


def test_a_timeout_stops_the_attempt_and_the_next_one_waits_for_its_end(reloading: bool) -> None:
    run = play({"a": node(timeout_s=10, retry={"max_attempts": 2, "wait_s": 0})}, reloading).wait(10)
    assert run.status("a") == "stopping"
    assert isinstance(run.commands[-1], Stop)
    run.fail("a", error="killed")
    assert run.asked == ["a"]
    assert run.state.rows[next(iter(run.open))].attempt == 2
    run.wait(10).fail("a")
    assert run.state.error == "a: not over within 10 s"


def test_an_attempt_that_does_not_stop_is_lost() -> None:
    run = play({"a": node(timeout_s=10)}).wait(10).wait(STOP_PATIENCE_S)
    assert run.state.rows[next(iter(run.open))].phase == "lost"
    assert run.state.status == "failed"


def test_a_result_that_comes_while_it_is_stopped_is_kept() -> None:
    run = play({"a": node(timeout_s=10), "b": node(needs=["a"])}).wait(10).finish("a", value={"x": 1})
    assert run.asked == ["b"]
    run = play({"a": node(), "b": node(needs=["a"])}).tell(Cancel()).finish("a")
    assert (run.state.status, run.status("a"), run.status("b")) == ("cancelled", "ok", None)


def test_a_node_deadline_bounds_all_of_its_attempts() -> None:
    run = play({"a": node(deadline_s=100, retry={"max_attempts": 9, "wait_s": 60, "backoff": 1})}).fail("a").wait(60)
    run.fail("a", error="no")
    assert run.state.error == "a: no (no time for another attempt before its deadline)"


def test_a_run_deadline_stops_everything() -> None:
    run = play({"a": node(), "b": node(retry={"max_attempts": 2, "wait_s": 900})}, deadline_s=60).fail("b").wait(60)
    assert (run.state.status, run.status("a"), run.status("b")) == ("failing", "stopping", "failed")
    assert run.fail("a").state.status == "failed"
    assert run.state.error == "the run was not over within 60 s"


def test_a_cancelled_wait_is_over_at_once_and_its_timer_finds_nothing() -> None:
    run = play({"a": node(retry={"max_attempts": 9, "wait_s": 60})}).fail("a").tell(Cancel("enough"))
    assert (run.state.status, run.state.wake_ms) == ("cancelled", None)
    assert run.wait(3600).asked == []


def test_a_cancelled_run_waits_for_the_end_of_its_attempts(reloading: bool) -> None:
    run = play({"extract": node(), "load": node(needs=["extract"], for_each=EACH)}, reloading)
    run.finish("extract", value=TABLES).tell(Cancel())
    assert run.state.status == "cancelling"
    run.fail("load", 0).finish("load", 1)
    assert (run.state.status, run.status("load", 0), run.status("load", -1)) == ("cancelled", "cancelled", "cancelled")


def test_a_queued_run_is_cancelled_without_beginning() -> None:
    run = Player(definition({"a": node()})).tell(Cancel())
    assert run.kinds() == ["run_cancelled"]
    run.tell(Resume())
    assert run.asked == ["a"]


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_a_resume_does_again_only_what_did_not_succeed(how: str, reloading: bool) -> None:
    nodes = {"extract": node(), "load": node(needs=["extract"], for_each=EACH), "end": node(needs=["load"])}
    run = play(nodes, reloading).finish("extract", value=TABLES).finish("load", 1)
    run.tell(Cancel()) if how == "cancel" else None
    run.fail("load", 0).finish("load", 2)
    assert run.state.status == ("cancelled" if how == "cancel" else "failed")
    run.tell(Resume())
    assert run.asked == ["load", "load[3]"]
    for number in (0, 3, 4):
        run.finish("load", number)
    assert run.finish("end").state.status == "ok"
    assert run.state.error is None
    attempts = {key.iteration: row.attempt for key, row in run.state.rows.items() if key.path == "load"}
    assert attempts == {-1: 0, 0: 2, 1: 1, 2: 1, 3: 1, 4: 1}


def test_a_resume_gives_the_attempts_again(reloading: bool) -> None:
    run = play({"a": node(retry={"max_attempts": 2, "wait_s": 1})}, reloading).fail("a").wait(1).fail("a")
    run.tell(Resume()).fail("a").wait(1)
    assert [attempt.number for attempt in run.open.values()] == [4]
    assert run.finish("a").state.status == "ok"


def test_a_nested_workflow_has_the_same_name_whenever_it_is_begun() -> None:
    run = play({"child": node(workflow={"name": "cleanup", "input": {"of": "${run.id}"}})})
    again = play({"child": node(workflow={"name": "cleanup", "input": {"of": "${run.id}"}})})
    assert run.commands == again.commands
    assert isinstance(run.commands[0], StartChild)
    assert run.commands[0].input == {"of": "run-1"}
    assert run.state.rows[Key("child")].run == run.commands[0].run


def test_the_output_is_what_the_definition_says() -> None:
    run = play(
        {"a": node(), "b": node(on_error="skip")}, output={"n": "${a.n}", "b": "${b.status}", "e": "${b.failed}"}
    )
    assert run.finish("a", value={"n": 3}).fail("b").state.output == {"n": 3, "b": "skipped", "e": 1}


def test_a_small_budget_does_the_same_in_more_calls() -> None:
    nodes = {"extract": node(), "load": node(needs=["extract"], for_each={**EACH, "max_parallel": 1000})}
    small = Player(definition(nodes), budget=3).begin().finish("extract", value={"tables": list(range(50))})
    assert len(small.asked) == 50
    large = Player(definition(nodes)).begin().finish("extract", value={"tables": list(range(50))})
    assert (small.state, small.events) == (large.state, large.events)


def test_a_cancelled_run_does_not_begin_again() -> None:
    run = play({"a": node()}).tell(Cancel()).tell(Failed(Attempt("a", 0, 1), "killed"))
    assert run.state.status == "cancelled"
    with pytest.raises(IllegalTransitionError, match="that is cancelled cannot begin"):
        run.tell(Begin())


@pytest.mark.parametrize("happening", [Resume(), Cancel(), Begin()])
def test_what_a_status_does_not_allow_is_refused(happening: Any) -> None:
    run = play({"a": node()}).finish("a")
    with pytest.raises(IllegalTransitionError):
        run.tell(happening)
