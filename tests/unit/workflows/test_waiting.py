"""Times of runs, pauses between attempts, and what stays in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.waiting import Waiting
from gateway.workflows.folding import weight
from gateway.workflows.live import Live, LiveRuns
from gateway.workflows.records import Owned, RunDetail, RunSummary
from gateway.workflows.retry import wait_s
from gateway.workflows.run import Key, Row, State
from gateway.workflows.spec import Retry
from gateway.workflows.states import NodeStatus, RunStatus
from tests.support.workflows import definition, node


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 50)), max_size=300), st.integers(0, 60))
def test_of_each_run_the_last_time_counts(sets: list[tuple[str, int | None]], now_ms: int) -> None:
    waiting, known = Waiting(), dict[str, int | None]()
    for run, at_ms in sets:
        waiting.set(run, at_ms)
        known[run] = at_ms
    times = sorted((at, run) for run, at in known.items() if at is not None)
    assert waiting.next_ms() == (times[0][0] if times else None)
    assert len(waiting) == len(times)
    due = waiting.due(now_ms, 100)
    assert due == [(at, run) for at, run in times if at <= now_ms]
    assert waiting.next_ms() == next((at for at, _ in times if at > now_ms), None)


def test_a_run_that_is_set_again_and_again_takes_one_place() -> None:
    waiting = Waiting()
    for at_ms in range(10_000, 0, -1):
        waiting.set("a", at_ms)
    assert len(waiting._heap) < 200
    assert waiting.due(1, 9) == [(1, "a")]


def test_pauses_grow_to_their_maximum_and_end() -> None:
    retry = Retry(max_attempts=5, wait_s=60, backoff=3, max_wait_s=900)
    assert [wait_s(retry, used) for used in range(1, 6)] == [60, 180, 540, 900, None]
    assert wait_s(Retry(max_attempts=1000, wait_s=1, backoff=100, max_wait_s=7), 999) == 7
    assert wait_s(Retry(max_attempts=1000, wait_s=0, backoff=100), 999) == 0
    assert wait_s(Retry(max_attempts=3, wait_s=900, max_wait_s=10), 1) == 10


def live(value: object) -> Live:
    rows = {Key("a"): Row(NodeStatus.OK, value=value)}
    state = State("r", "test", 1, {}, RunStatus.RUNNING, rows=rows)
    summary = RunSummary("r", "acme", "test", 1, RunStatus.RUNNING, 1, None, 0, 0, None, None, 0)
    return Live(Owned("r", "acme", 1, None), RunDetail(summary, state, None), definition({"a": node()}))


def test_runs_leave_memory_by_their_bytes_those_not_used_for_longest_first() -> None:
    small, large = live(None), live("x" * 100_000)
    assert large.bytes > 50 * small.bytes
    runs = LiveRuns(10 * small.bytes)
    for number in range(8):
        runs.add(str(number), live(None))
    first = runs.find("0")
    assert first is not None
    runs.grow("0", first, 1)
    runs.evict({})
    assert runs.find("1") is not None
    runs.add("large", large)
    runs.evict({"large": 1, "2": 1})
    assert [run for run in "01234567" if runs.find(run) is not None] == ["2"]
    assert runs.find("large") is large
    runs.drop("large")
    runs.drop("large")
    assert weight(small.state) == small.bytes
