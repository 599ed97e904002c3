"""Commands between devices: each is sent at its moment, carried out, and accounted for once."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from gateway.protocol.messages import Command, CommandResult
from loadtest.fleet.commander import GRACE_S, NEAR_S, Commander
from loadtest.fleet.device import LEAVING, OPEN
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.tally import FleetTally


class Wire:
    """A connection that remembers what it sent."""

    def __init__(self) -> None:
        self.state = OPEN
        self.sent: list[Any] = []

    def send(self, payload: bytes) -> None:
        self.sent.append(json.loads(payload))


class Fleet:
    """Devices that are connected, and their commander."""

    def __init__(self, devices: int = 2) -> None:
        options = FleetOptions(
            urls=["ws://127.0.0.1:1/ws"], devices=devices, secret="x" * 32, commands_per_s=10, command_deadline_s=2
        )
        self.wires = [Wire() for _ in range(devices)]
        self.tally = FleetTally()
        self.commander = Commander(options, self.wires, self.tally, Random(1))  # type: ignore[arg-type]
        self.commander.begin(100.0)

    def commands(self) -> list[Any]:
        found = [message for wire in self.wires for message in wire.sent if message["type"] == "command"]
        return sorted(found, key=lambda message: int(message["id"]))

    def counts(self) -> dict[str, int]:
        return {name.removeprefix("command_"): count for name, count in self.tally.commands.items() if count}


def test_commands_go_out_at_their_moments_and_their_results_count() -> None:
    fleet = Fleet()
    fleet.commander.turn(110.0)
    sent = fleet.commands()
    assert 60 < len(sent) < 140, "ten a second"
    assert {message["device"] for message in sent} == {"device-0", "device-1"}
    assert (sent[0]["id"], sent[0]["args"], sent[0]["deadline_ms"]) == ("1", {"number": 1, "on": True}, 2000)
    for message in sent:
        fleet.commander.answered(CommandResult(message["id"], True), 110.5)
    fleet.commander.answered(CommandResult("1", True), 110.5)
    fleet.commander.answered(CommandResult("of somebody else", True), 110.5)
    assert fleet.counts() == {"sent": len(sent), "results": len(sent)}
    assert fleet.commander.pending == 0
    assert fleet.tally.command.take()
    fleet.commander.pause()
    fleet.commander.turn(200.0)
    assert len(fleet.commands()) == len(sent)


def test_a_device_does_as_it_is_told_and_what_it_does_twice_is_counted() -> None:
    fleet = Fleet()
    order = Command("wire-1", "switch", {"number": 7, "on": True}, 1000)
    fleet.commander.carry_out(0, order)
    fleet.commander.carry_out(1, Command("wire-2", "switch", {"number": 8}, 1000))
    fleet.commander.carry_out(0, Command("wire-3", "switch", None, 1000))
    assert fleet.counts() == {}
    fleet.commander.carry_out(0, order)
    assert fleet.counts() == {"carried_twice": 1}
    assert [message["command"] for message in fleet.wires[0].sent] == ["wire-1", "wire-3", "wire-1"]


@pytest.mark.parametrize(
    ("code", "counted"),
    [("offline", "refused"), ("busy", "refused"), ("timed_out", "timed_out"), ("gone", "timed_out")],
)
def test_a_failure_far_from_any_move_is_told_apart(code: str, counted: str) -> None:
    fleet = Fleet(1)
    fleet.commander.turn(101.0)
    fleet.commander.pause()
    first, second, *rest = fleet.commands()
    fleet.commander.refused(first["id"], code, 101.5)
    fleet.commander.turn(101.5 + NEAR_S + 0.1)
    assert fleet.counts() == {"sent": 2 + len(rest), counted: 1, "far": 1}
    fleet.commander.refused(second["id"], code, 103.7)
    fleet.commander.moved(0, 105.0)
    fleet.commander.turn(103.7 + NEAR_S + 0.1)
    expected = {"sent": 2 + len(rest), counted: 2, "far": 1} | ({"cut": len(rest)} if rest else {})
    assert fleet.counts() == expected


def test_what_nobody_answers_is_counted() -> None:
    fleet = Fleet(1)
    fleet.commander.turn(101.0)
    fleet.commander.pause()
    count = len(fleet.commands())
    fleet.commander.turn(101.0 + 2 + GRACE_S)
    assert fleet.commander.pending == count
    fleet.commander.turn(101.1 + 2 + GRACE_S)
    assert fleet.counts() == {"sent": count, "unanswered": count}


def test_at_the_end_everything_is_accounted_for() -> None:
    fleet = Fleet(1)
    fleet.commander.turn(101.0)
    count = len(fleet.commands())
    fleet.wires[0].state = LEAVING
    fleet.commander.turn(102.0)
    made = fleet.tally.commands["command_sent"]
    fleet.commander.refused("1", "offline", 102.0)
    fleet.commander.end()
    assert fleet.counts() == {
        "sent": made,
        "cut": made - count,
        "refused": 1,
        "far": 1,
        "unanswered": count - 1,
    }
