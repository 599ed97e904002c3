"""Deploys of real gateways with faults of the load balancer's API, its targets or a gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deploys import DEVICES, deploy

pytestmark = pytest.mark.deploy
# Where everything happens within seconds, a busy machine must not decide.
SLOWER = "deploy.speed=20"
# A gateway takes a second of CPU to start: one old and one new one where two would show no more.
ONE = "deploy.old=1"
OLD = ("gateway-1.1", "gateway-1.2")
KINDS = {"credentials": "expired", "endpoint": "unreachable"}


def test_a_reversal_in_the_middle_keeps_the_rest(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", "deploy.faults.reverse_at_s=60", scenario="deploy-reversal")
    assert played.happened("registered again")
    states = played.states()
    assert (states["gateway-1.1"], states["gateway-1.2"]) == ("serving", "serving")
    connects = played.figures["connects"]
    assert connects is not None
    moved = connects - DEVICES
    assert 0 < moved < DEVICES
    assert played.figures["abnormal_close"] == 0


def test_without_receivers_the_drain_waits_and_then_goes_on(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", scenario="deploy-no-receivers")
    drains = played.begun_by("target_health")
    assert [drain["outcome"] for drain in drains] == ["drained", "drained"]
    # Devices that were sent away before a new gateway could take them were refused, and tried again.
    refused = played.figures["refused"]
    assert refused is not None
    assert refused > 0
    assert played.figures["abnormal_close"] == 0


def test_two_hundred_other_pollers_make_no_gateway_drain(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", "deploy.before_s=60", scenario="deploy-throttled")
    states = played.states()
    assert {states[name] for name in ("gateway-1.3", "gateway-1.4")} <= {"serving", "registering"}
    assert played.logged("poll_failed", *OLD, kind="throttled")
    # All were moved once: by target health or, where no poll came through, by SIGTERM.
    by_health, by_sigterm = played.begun_by("target_health"), played.begun_by("sigterm")
    assert sum(drain["sent_away"] for drain in by_health + by_sigterm) >= DEVICES
    assert played.figures["abnormal_close"] == 0


@pytest.mark.parametrize("what", ["credentials", "endpoint"])
def test_what_is_lost_before_leaves_sigterm(tmp_path: Path, what: str) -> None:
    played = deploy(tmp_path / "run", ONE, SLOWER, "deploy.delay_s=40", scenario=f"deploy-{what}-before")
    assert played.logged("poll_failed", "gateway-1.1", kind=KINDS[what])
    assert not played.begun_by("target_health")
    assert sum(drain["sent_away"] for drain in played.begun_by("sigterm")) == DEVICES
    assert played.figures["abnormal_close"] == 0


@pytest.mark.parametrize("what", ["credentials", "endpoint"])
def test_what_is_lost_during_a_drain_changes_nothing(tmp_path: Path, what: str) -> None:
    played = deploy(tmp_path / "run", ONE, scenario=f"deploy-{what}-during")
    assert played.logged("poll_failed", "gateway-1.1", kind=KINDS[what])
    drains = played.begun_by("target_health")
    assert [drain["outcome"] for drain in drains] == ["drained"]
    assert sum(drain["sent_away"] for drain in drains) == DEVICES
    assert played.figures["abnormal_close"] == 0


def test_a_gateway_that_stands_still_catches_up(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", SLOWER, scenario="deploy-stall")
    assert played.happened("stand still")
    drains = played.begun_by("target_health")
    assert [drain["outcome"] for drain in drains] == ["drained", "drained"]
    assert played.figures["abnormal_close"] == 0


def test_clients_that_never_answer_a_close_are_ended_in_time(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", ONE, scenario="deploy-deaf")
    drains = played.begun_by("target_health")
    assert [drain["outcome"] for drain in drains] == ["drained"]
    assert played.client_models["deaf"]["devices"] > 0
    assert played.client_models["deaf"]["connected"] == played.client_models["deaf"]["devices"]
    # They saw a close frame, even though they ignored it.
    assert played.figures["abnormal_close"] == 0


def test_the_balancer_cuts_what_is_left_after_sigterm(tmp_path: Path) -> None:
    # The gateways stand still from before SIGTERM until after the cut, eight seconds later.
    stalled = ("deploy.faults.stall_at_s=55", "deploy.faults.stall_s=25")
    played = deploy(tmp_path / "run", ONE, "deploy.drain=false", "deploy.delay_s=60", *stalled, SLOWER)
    assert played.figures["abnormal_close"] == DEVICES
    assert played.client_models["patient"]["abnormal"] == DEVICES


def test_a_task_that_was_stopped_by_a_person_is_cut_after_the_delay(tmp_path: Path) -> None:
    # It stands still from just after SIGTERM until after the end of the delay and eight seconds more.
    stalled = ("deploy.faults.stall_at_s=1", "deploy.faults.stall_s=25")
    played = deploy(tmp_path / "run", "deploy.delay_s=5", *stalled, SLOWER, scenario="deploy-stop-task")
    abnormal = played.figures["abnormal_close"]
    assert abnormal is not None
    assert abnormal > DEVICES / 2
    assert not played.happened("SIGKILL")
