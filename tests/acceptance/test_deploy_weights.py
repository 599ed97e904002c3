"""Deploys by weights, played small and fast: connections follow, a rollback moves nobody, the clean-up finds few."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deploys import deploy

pytestmark = pytest.mark.deploy
DEVICES = 200
FAST = ("deploy.speed=60",)


def test_a_canary_meets_devices_and_the_clean_up_finds_next_to_none(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", *FAST, scenario="deploy-canary", devices=DEVICES)
    assert [drain["outcome"] for drain in played.begun_by("weights")] == ["clean_up"] * 2
    canary, whole, clean_up = played.waves
    assert 35 <= canary["lost"] <= 52
    assert whole["step"]["on_old"] <= 0.1 * DEVICES
    assert clean_up["connections"] <= 0.1 * DEVICES
    assert (played.figures["hops"] or 9) <= 1.3
    assert played.figures["abnormal_close"] == played.figures["lost"] == 0


def test_without_following_the_clean_up_finds_all(tmp_path: Path) -> None:
    settings = (*FAST, "deploy.follow=false", "deploy.step_bake_s=60", "deploy.bake_s=60")
    played = deploy(tmp_path / "run", *settings, scenario="deploy-canary", devices=DEVICES)
    assert played.begun_by("weights") == []
    assert (played.figures["clean_up_ratio"] or 0) >= 0.9


def test_only_the_new_revision_has_its_settings(tmp_path: Path) -> None:
    bad = ("deploy.new_settings.connections.maximum=1", "deploy.percent=40", "deploy.rollback_at_s=300")
    played = deploy(tmp_path / "run", *FAST, *bad, scenario="deploy-canary-rollback", devices=DEVICES)
    assert played.waves[0]["step"]["on_new"] <= 2
    assert played.result["refused"]


def test_a_rollback_moves_nobody(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", *FAST, scenario="deploy-canary-rollback", devices=DEVICES)
    assert [drain["outcome"] for drain in played.begun_by("weights")] == ["rolled_back"] * 2
    assert (played.figures["rollback_moved_ratio"] or 0) <= 0.01
    assert played.states()["gateway-1.1"] == "serving"
    assert played.figures["abnormal_close"] == 0


def test_old_tasks_drain_although_the_deployment_is_over(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", scenario="deploy-deferred-cleanup")
    assert played.happened("the deployment is successful; its old tasks are still there")
    assert [drain["outcome"] for drain in played.begun_by("target_health")] == ["drained"] * 2
    assert played.begun_by("weights") == []
    assert played.figures["abnormal_close"] == 0
