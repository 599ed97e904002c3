"""Fleets with the clients of real firmware against a real gateway: what ended or starved such devices does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_drain import heiwa_drain
from tests.support.fleet_program import DEVICES, fleet
from tests.support.program import Program

OPEN_HOUSE = ("connections.flap_limit=0",)
HEARTBEAT_S = 1.0
# Their 10 and 15 s are 1 and 1.5 s here.
SPEED = 10
MIX = {
    "patient": 0.1,
    "esp-idf": 0.15,
    "esp-idf-15s": 0.15,
    "esp-idf-reconnect": 0.1,
    "arduino": 0.1,
    "arduino-5s": 0.1,
    "tiny": 0.05,
    "micropython": 0.1,
    "mongoose": 0.1,
    "gun": 0.05,
}


def outage(folder: Path, *settings: str, stall_s: float, **options: Any) -> dict[str, tuple[int, int, int]]:
    """Nothing passes for a while; of each client model how many devices there are, are connected again, and gave up."""
    with (
        Program(folder, *OPEN_HOUSE, f"connections.heartbeat_s={HEARTBEAT_S}", *settings) as program,
        fleet(program, client_models=MIX, speed=SPEED, **options) as subject,
    ):
        subject.tell("connect")
        subject.tell("send")
        subject.until(lambda told: told.connected == DEVICES and told.acked > DEVICES)
        subject.tell("cut", fraction=1, how="stall", for_s=stall_s)
        subject.until(lambda told: sum(told.closed.values()) + told.given_up >= DEVICES)
        told = subject.until(lambda told: told.connecting == 0 and told.connected + told.given_up == DEVICES)
        subject.tell("pause")
        last = subject.until(lambda told: told.in_flight == 0 and told.waiting == 0)
        assert (last.nacked, last.lost) == (0, 0)
        subject.finish()
    return {name: (of.devices, of.connected, of.given_up) for name, of in told.client_models.items()}


def test_no_device_is_lost_when_an_access_point_restarts(tmp_path: Path) -> None:
    """Two heartbeats and a little more: the gateway's close waits for devices that then read it."""
    found = outage(tmp_path / "data", stall_s=2 * HEARTBEAT_S + 0.7, events={"period_s": 1})
    assert found.keys() == MIX.keys()
    assert all(connected == devices and given_up == 0 for devices, connected, given_up in found.values()), found


def test_what_was_stored_gets_acks_that_every_client_can_take(tmp_path: Path) -> None:
    found = outage(tmp_path / "data", stall_s=5, events={"period_s": 0.08}, store=10_000)
    assert found.keys() == MIX.keys()
    assert all(connected == devices and given_up == 0 for devices, connected, given_up in found.values()), found


@pytest.mark.parametrize("client_model", ["gun", "naive", "tiny"])
def test_a_client_without_a_pause_is_slowed_by_its_refusals(tmp_path: Path, client_model: str) -> None:
    devices, watched_s = 5, 3
    with (
        Program(tmp_path / "data", *OPEN_HOUSE) as program,
        fleet(program, client_models={client_model: 1.0}, devices=devices, probe=False) as subject,
    ):
        assert heiwa_drain(program, "start", "--window", "600").returncode == 0
        subject.tell("connect")
        began = subject.until(lambda told: sum(told.refused.values()) > 0)
        over = subject.until(lambda told: told.time_ms >= began.time_ms + 1000 * watched_s)
        refused = sum(over.refused.values()) - sum(began.refused.values())
        subject.finish()
    # Each answer is held for a second at least; the first few are not.
    assert 0 < refused <= devices * (watched_s + 4)


def test_a_silent_device_that_overlooks_empty_pings_stays(tmp_path: Path) -> None:
    with (
        Program(tmp_path / "data", *OPEN_HOUSE, f"connections.heartbeat_s={HEARTBEAT_S}") as program,
        fleet(program, client_models={"zephyr": 1.0}, events={"period_s": 0}) as subject,
    ):
        subject.tell("connect")
        began = subject.until(lambda told: told.connected == DEVICES)
        silent_ms = 4 * 1000 * HEARTBEAT_S
        over = subject.until(lambda told: told.time_ms >= began.time_ms + silent_ms)
        assert (over.connected, over.connects, over.closed) == (DEVICES, DEVICES, {})
        subject.finish()
