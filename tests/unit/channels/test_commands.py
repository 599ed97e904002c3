"""Commands under way: a device settles its own, each once, and nothing is left behind."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.api.commands import STATUS
from gateway.channels.commands import MEANINGS, InFlight, Outcome, Progress

SLOTS = st.integers(0, 3)
COMMANDS = st.sampled_from([f"c{number}" for number in range(8)])


def test_a_device_settles_its_own_commands_only_and_each_once() -> None:
    commands: InFlight[str] = InFlight(2)
    commands.add("a", 1, "first")
    assert commands.settle("a", 2) is None
    assert commands.settle("b", 1) is None
    assert commands.settle("a", 1) == "first"
    assert commands.settle("a", 1) is None
    assert len(commands) == 0


def test_a_report_is_kept_until_the_end() -> None:
    commands: InFlight[str] = InFlight(2)
    commands.add("a", 1, "waiter")
    commands.add("b", 1, "other")
    assert commands.report("a", 2, Progress(10, None)) is None, "of another device"
    assert commands.report("a", 1, Progress(50, "half")) == "waiter"
    assert commands.report("a", 1, Progress(75, None)) == "waiter"
    assert commands.end("a") == ("waiter", Progress(75, None))
    assert commands.end("a") is None
    assert commands.report("a", 1, Progress(80, None)) is None
    assert commands.end("b") == ("other", None)


def test_a_device_and_the_process_have_their_bounds() -> None:
    commands: InFlight[str] = InFlight(2, maximum=3)
    for name, slot in (("a", 1), ("b", 1), ("c", 2)):
        assert commands.has_room(slot)
        commands.add(name, slot, name)
    assert not commands.has_room(1)
    assert not commands.has_room(3), "the process is full"
    commands.end("a")
    assert commands.has_room(1)
    assert not InFlight[str](0).has_room(1)


@given(st.lists(st.tuples(st.sampled_from(["add", "settle", "end", "gone"]), COMMANDS, SLOTS)))
def test_every_waiter_is_told_at_most_once_and_none_is_left(steps: list[tuple[str, str, int]]) -> None:
    commands: InFlight[int] = InFlight(3)
    told: Counter[int] = Counter()
    added = dropped = 0
    known: set[str] = set()
    for what, command, slot in steps:
        if what == "add" and command not in known and commands.has_room(slot):
            commands.add(command, slot, added)
            known.add(command)
            added += 1
        elif what == "settle" and (waiter := commands.settle(command, slot)) is not None:
            told[waiter] += 1
        elif what == "end":
            dropped += commands.end(command) is not None
        elif what == "gone":
            told.update(commands.gone(slot))
    for slot in range(4):
        told.update(commands.gone(slot))
    assert len(commands) == 0
    assert set(told.values()) <= {1}
    assert len(told) + dropped == added


def test_every_outcome_has_a_meaning_and_a_status() -> None:
    assert set(MEANINGS) == set(Outcome)
    assert set(STATUS) == set(Outcome) - {Outcome.DONE}
