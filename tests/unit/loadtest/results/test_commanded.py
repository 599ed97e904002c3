"""Figures of commands to lamps, around the times when the broker was away."""

from __future__ import annotations

from loadtest.results.commanded import BACK, BROKER_ACTION, figures
from loadtest.results.records import Commanded, Happened


def action(time_s: float, do: str) -> Happened:
    return Happened(int(time_s * 1000), "action", f"{do} the broker", BROKER_ACTION, {"do": do})


def command(time_s: float, outcome: str = "done", took_ms: float = 2.0, way: str = "remote") -> Commanded:
    return Commanded(int(time_s * 1000), way, outcome, took_ms, 0)


def test_nothing_is_said_without_commands() -> None:
    assert figures([], [action(1, "kill")]) == {}


def test_failures_count_while_the_broker_is_there() -> None:
    events = [action(10, "kill"), action(40, BACK)]
    commands = [
        command(5),
        command(9, "timed_out", 500),
        command(11, "timed_out", 2000),
        command(12, "unreachable", 900),
        command(20, "unreachable", 3),
        command(40.6, "unknown"),
        command(42, "offline"),
        command(42.5),
        command(44, "offline"),
        command(20, way="local"),
        command(21, "gone", way="local"),
    ]
    found = figures(commands, events)
    assert found["commands"] == 11
    # At 9 s and at 44 s.
    assert found["commands_remote_failed"] == 2
    assert found["commands_local_failed"] == 1
    assert found["commands_refused_p99_ms"] == 3
    assert found["broker_back_s"] == 4
    assert found["command_remote_p50_ms"] == 2


def test_one_that_went_and_came_back_several_times() -> None:
    events = [action(10, "freeze"), action(20, BACK), action(30, "kill"), action(31, BACK)]
    commands = [command(20.5, "unknown"), command(30.5, "unreachable"), command(32.5, "unknown"), command(40)]
    assert figures(commands, events)["broker_back_s"] == 1.5
    assert figures([command(5)], [])["broker_back_s"] is None
    assert figures([command(5)], [action(1, "kill")])["broker_back_s"] is None


def test_what_was_carried_out_twice_is_counted() -> None:
    found = figures([Commanded(1, "local", "done", 1.0, 0), Commanded(2, "local", "done", 1.0, 2)], [])
    assert found["commands_doubled"] == 2
