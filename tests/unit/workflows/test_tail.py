"""The newest events in memory: never one too many, never one missing."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.workflows.records import Change
from gateway.workflows.run import State
from gateway.workflows.step import Event, Kind
from gateway.workflows.tail import MAX_OF_RUN, Tail


def change(run: str, before: int, count: int) -> Change:
    events = [Event(Kind.PROGRESS, percent=float(before + 1 + place)) for place in range(count)]
    state = State(run, "test", 1, {}, revision=before + count)
    empty: Any = {}
    return Change(state, 1, before, empty, empty, events, [], [], None, "acme")


def test_what_follows_is_read_in_parts() -> None:
    tail = Tail()
    tail.take(change("r", 4, 3), 1)
    tail.take(change("r", 7, 2), 2)
    assert [one.revision for one in tail.read(("acme", "r"), 4, 10)] == [5, 6, 7, 8, 9]
    assert [one.revision for one in tail.read(("acme", "r"), 6, 2)] == [7, 8]
    assert tail.newest(("acme", "r")) == 9


def test_what_may_not_be_all_is_not_told() -> None:
    tail = Tail()
    tail.take(change("r", 4, 3), 1)
    assert tail.read(("acme", "r"), 3, 10) == []
    assert tail.read(("acme", "r"), 7, 10) == []
    assert tail.read(("other", "r"), 4, 10) == []
    # Another process stored 8 to 10.
    tail.take(change("r", 10, 1), 2)
    assert tail.read(("acme", "r"), 4, 10) == []
    assert [one.revision for one in tail.read(("acme", "r"), 10, 10)] == [11]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400), st.booleans()), max_size=40))
def test_it_tells_only_what_was_stored_and_is_bounded(steps: list[tuple[str, int, bool]]) -> None:
    tail, stored = Tail(500), dict.fromkeys("abc", 0)
    for run, count, elsewhere in steps:
        if not elsewhere:
            tail.take(change(run, stored[run], count), 1)
        stored[run] += count
        for name, newest in stored.items():
            for after in range(0, newest + 2, 37):
                found = [one.revision for one in tail.read(("acme", name), after, 1_000)]
                assert found == list(range(after + 1, after + 1 + len(found)))
                assert not found or found[-1] <= newest
    assert len(tail) <= 500 + MAX_OF_RUN
