"""What programs like this one were reported to do wrong, played here. Each names the report."""

from __future__ import annotations

import pytest

from gateway.workflows.retry import wait_s
from gateway.workflows.run import Attempt, Key
from gateway.workflows.spec import Retry
from gateway.workflows.step import Cancel, Failed, Finished, Resume, StartChild
from tests.support.workflows import Player, definition, from_yaml, node


def play(nodes: object, **given: object) -> Player:
    return Player(definition(nodes), **given).begin()  # type: ignore[arg-type]


@pytest.mark.parametrize("backoff", [1.0, 2.0, 100.0])
def test_a_wait_after_a_thousand_attempts_is_a_number(backoff: float) -> None:
    """apache/airflow 47971, openai/openai-agents-python 3226, KAFKA-20968: the power overflowed above its limit."""
    retry = Retry(max_attempts=1_000, wait_s=300, backoff=backoff, max_wait_s=3_600)
    waits = [wait_s(retry, used) for used in range(1, 1_000)]
    assert all(wait is not None and 0 < wait <= 3_600 for wait in waits)
    assert waits == sorted(waits, key=float)  # type: ignore[arg-type]
    assert wait_s(retry, 1_000) is None


def test_some_empty_lists_hang_nothing() -> None:
    """argoproj/argo-workflows 1864: with several lists, some of them empty, the run stood for ever."""
    each = {"max_parallel": 1}
    run = play(
        {
            "make": node(),
            "one": node(needs=["make"], for_each={"items": "${make.one}", **each}),
            "two": node(needs=["one"], for_each={"items": "${make.two}", **each}),
            "end": node(needs=["two"]),
        }
    )
    run.finish("make", value={"one": [], "two": [1]}).finish("two").finish("end")
    assert run.state.status == "ok"
    assert (run.status("one", -1), run.status("two", -1)) == ("ok", "ok")


def test_what_a_skipped_node_left_is_an_error_not_a_hang() -> None:
    """argoproj/argo-workflows 15949, 16793: the output of a skipped step was waited for."""
    shown = {"run": {"device": {"id": "d", "command": "show", "args": {"text": "${maybe.text}"}}}}
    run = play({"maybe": node(when="1 == 2"), "show": {**shown, "needs": ["maybe"]}})
    assert run.state.status == "failed"
    assert run.state.error is not None
    assert "${maybe" in run.state.error
    asked = play({"maybe": node(when="1 == 2"), "show": node(needs=["maybe"], when='${maybe.status} == "ok"')})
    assert (asked.state.status, asked.status("show")) == ("ok", "skipped")


def test_the_items_of_a_node_that_is_skipped_are_not_looked_at() -> None:
    """argoproj/argo-workflows 4784: a list was read although the step was not to run."""
    run = play({"make": node(), "each": node(needs=["make"], when="1 == 2", for_each={"items": "${make.gone}"})})
    assert run.finish("make", value={}).state.status == "ok"
    assert run.status("each", -1) == "skipped"


def test_a_condition_on_an_item_is_refused_where_it_is_written() -> None:
    """argoproj/argo-workflows 16270: a condition that named the item was taken, and skipped everything."""
    text = 'name: x\nnodes:\n  a:\n    for_each: {items: [1], as: item}\n    when: "${item} == 1"\n'
    with pytest.raises(Exception, match=r"line 5, column 11: nodes.a.when: \$\{item\}: item is not known here"):
        from_yaml(text + "    run: {process: {command: [x]}}\n")


def test_children_that_end_at_the_same_time_wake_their_parent() -> None:
    """durable-workflow/workflow 493: two children ended at once, and nobody resumed the parent."""
    nested = {"workflow": {"name": "child"}}
    run = play(
        {"each": {**nested, "for_each": {"items": list(range(20)), "max_parallel": 20}}, "end": node(needs=["each"])}
    )
    for number in reversed(range(20)):
        run.finish("each", number)
    assert run.finish("end").state.status == "ok"


def test_a_nested_run_that_fails_late_fails_its_parent() -> None:
    """elsa-workflows/elsa-core 6471: the parent of a child that faulted after a wait stayed suspended."""
    run = play({"child": node(workflow={"name": "child"}), "end": node(needs=["child"])})
    run.wait(86_400).fail("child", error="the nested run failed: broken", again=False)
    assert (run.state.status, run.status("end")) == ("failed", None)


def test_a_nested_run_that_was_cancelled_begins_anew_when_its_parent_is_resumed() -> None:
    """dbos-inc/dbos-transact-ts 1303: the cancellation was kept as the step's result, so that a resume ended again."""
    run = play({"child": node(workflow={"name": "child"})})
    first = run.commands[0]
    run.tell(Cancel()).fail("child", error="the nested run cancelled", again=False)
    assert run.state.status == "cancelled"
    run.tell(Resume())
    second = run.commands[-1]
    assert isinstance(first, StartChild)
    assert isinstance(second, StartChild)
    assert (second.attempt.number, second.run != first.run) == (2, True)
    assert run.finish("child").state.status == "ok"


def test_the_late_end_of_an_earlier_attempt_ends_no_later_one() -> None:
    """apache/airflow 66374, 10790: an executor's word about the try before failed the task that was at work."""
    run = play({"a": node(retry={"max_attempts": 3, "wait_s": 1}, timeout_s=10)})
    run.wait(10).fail("a").wait(1)
    assert run.open[Key("a")].number == 2
    before = run.state
    for late in (Finished(Attempt("a", 0, 1), {}), Failed(Attempt("a", 0, 1), "late")):
        run.tell(late)
        assert run.state.rows == before.rows
    assert run.finish("a").state.status == "ok"
