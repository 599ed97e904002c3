"""Deploys of real gateways behind a stand-in load balancer: which drain, when, and in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.deploys import DEVICES, deploy

pytestmark = pytest.mark.deploy
# Where everything happens within seconds, a busy machine must not decide.
SLOWER = "deploy.speed=20"


def test_one_task_drains_before_its_sigterm(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", scenario="deploy-one-task")
    [drain] = played.begun_by("target_health")
    assert (drain["outcome"], drain["connections"], drain["sent_away"]) == ("drained", DEVICES, DEVICES)
    assert played.states() == {"gateway-1.1": "drained", "gateway-1.2": "serving"}
    assert played.figures["abnormal_close"] == 0
    assert played.figures["closed"] == 2 * DEVICES
    # The closes take all of the window: 120 s less the margin, the close time-out counts, and the poll.
    assert drain["took_s"] > 60


def test_all_old_tasks_drain_at_once(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", "deploy.old=3")
    drains = played.begun_by("target_health")
    assert [drain["outcome"] for drain in drains] == ["drained"] * 3
    assert sum(drain["sent_away"] for drain in drains) == DEVICES
    assert played.figures["abnormal_close"] == 0
    assert played.figures["connects"] == 2 * DEVICES


def test_waves_drain_one_after_the_other(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", "deploy.old=2", "deploy.waves=2", "deploy.delay_s=90", scenario="deploy-waves")
    assert len(played.waves) == 2
    assert played.waves[0]["ended_ms"] <= played.waves[1]["began_ms"]
    assert [drain["outcome"] for drain in played.begun_by("target_health")] == ["drained", "drained"]
    # Round robin: some of the first wave's devices go to the task of the second one, and move twice.
    moved = sum(drain["sent_away"] for drain in played.begun_by("target_health"))
    assert moved > DEVICES
    assert played.figures["abnormal_close"] == 0


def test_least_outstanding_sends_a_wave_to_the_newborn(tmp_path: Path) -> None:
    played = deploy(
        tmp_path / "run", "deploy.old=2", "deploy.waves=2", "deploy.delay_s=90", scenario="deploy-waves-emptiest"
    )
    first, second = played.begun_by("target_health")
    assert first["sent_away"] == DEVICES // 2
    # All of them went to the new task, which was empty.
    assert second["sent_away"] <= DEVICES // 2 + 2


def test_stop_task_sends_sigterm_first(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", SLOWER, scenario="deploy-stop-task")
    drains = played.begun_by("sigterm")
    assert sum(drain["sent_away"] for drain in drains) == DEVICES
    assert all(drain["leftover"] == 0 for drain in drains)
    assert played.figures["abnormal_close"] == 0
    assert not played.happened("SIGKILL")


def test_spot_sends_sigterm_while_registered(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", scenario="deploy-spot")
    drains = played.begun_by("sigterm")
    assert sum(drain["sent_away"] for drain in drains) == DEVICES
    assert all(drain["window_s"] == pytest.approx(110, abs=1) for drain in drains)
    assert played.figures["abnormal_close"] == 0
    assert not played.happened("SIGKILL")


def test_a_newborn_on_a_reused_address_does_not_drain(tmp_path: Path) -> None:
    logged = 'gateways.settings={"log.level"="info"}'
    played = deploy(tmp_path / "run", "deploy.delay_s=300", logged, scenario="deploy-newborn")
    assert not played.begun_by("target_health")
    newborn = ("gateway-1.3", "gateway-1.4")
    assert [played.states()[name] for name in newborn] == ["serving", "serving"]
    assert all(played.logged("drain_state", name, before="registering", state="serving") for name in newborn)
    # One that began wrongly had nobody to send away, and keeps no receipt.
    assert not any(played.logged("drain_begun", name, origin="target_health") for name in newborn)


def test_a_delay_shorter_than_the_window_shortens_it(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", "deploy.delay_s=90", scenario="deploy-short-delay")
    drains = played.begun_by("target_health")
    assert [drain["outcome"] for drain in drains] == ["drained", "drained"]
    assert all(drain["window_s"] < 75 for drain in drains)
    assert played.figures["abnormal_close"] == 0


def test_without_a_delay_sigterm_moves_all_devices_before_the_cut(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", "deploy.delay_s=0", SLOWER, scenario="deploy-no-delay")
    assert sum(drain["sent_away"] for drain in played.drains if drain.get("origin")) == DEVICES
    assert played.figures["abnormal_close"] == 0


def test_without_the_drain_all_move_at_sigterm(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", "deploy.drain=false")
    assert [drain["origin"] for drain in played.drains if drain.get("origin")] == ["sigterm", "sigterm"]
    [wave] = played.waves
    assert wave["peak_per_s"] > 10 * wave["even_per_s"]


def test_before_and_after_are_one_report(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", "deploy.old=1", options=("--compare",))
    before = json.loads((tmp_path / "run/before/result.json").read_text())
    [with_drain], [without] = played.waves, before["waves"]
    assert without["peak_per_s"] > 3 * with_drain["peak_per_s"]
    page = (tmp_path / "run/comparison.html").read_text()
    assert "New connections a simulated second" in page
    assert page.count('"label":"before"') == page.count('"label":"after"') == 1
