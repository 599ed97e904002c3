"""`heiwa drain status --watch`: the figures of a fleet, and of one gateway while the channel cannot be had."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli import fleet_drain
from gateway.cli.drain import describe
from gateway.cli.fleet_drain import FleetDrain, as_status
from gateway.watching.messages import Event, Subscribed

FRAME: dict[str, Any] = {
    "gateways": 2,
    "leaving": 1,
    "connections": 30,
    "remaining": 7,
    "sent_away": 3,
    "rate_per_s": 2,
    "listed": [
        {"gateway": "a", "state": "serving", "connections": 20, "remaining": 20},
        {
            "gateway": "b",
            "state": "draining",
            "connections": 10,
            "remaining": 7,
            "origin": "api",
            "sent_away": 3,
            "seconds_left": 41.2,
        },
    ],
}


def test_a_frame_is_a_status_of_the_whole() -> None:
    found = as_status(FRAME)
    assert (found["state"], found["remaining"], found["progress"]) == ("draining", 7, {"sent_away": 3})
    assert as_status({**FRAME, "leaving": 0})["state"] == "serving"
    assert describe(found).splitlines() == [
        "2 gateways with 30 connections; 1 leave, 7 connections to go, 2 a second",
        "  a  serving: 20 connections",
        "  b  draining: 10 connections (api: 3 sent away, 41 s left)",
    ]


def test_without_the_channel_one_gateway_is_asked_and_frames_are_taken_when_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_drain, "_PATIENCE_S", 0.01)
    notes: list[str] = []
    fleet = FleetDrain("ws://127.0.0.1:1/ws", lambda: "x.y.z", lambda: {"state": "draining"}, notes.append)
    assert fleet.status() == {"state": "draining"}
    fleet.snapshot(Subscribed("drain", None, FRAME))
    fleet.event(Event("drain", 1, {**FRAME, "remaining": 6}))
    assert fleet.status()["remaining"] == 6
    assert fleet.status() == {"state": "draining"}
