"""Deploys of real gateways under fleets of several clients: each kind comes back, as its source says it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deploys import DEVICES, deploy

pytestmark = pytest.mark.deploy


@pytest.mark.parametrize(
    ("client_model", "scenario"),
    [
        ("patient", "deploy"),
        ("esp-idf", "deploy-esp-idf"),
        ("arduino", "deploy-arduino"),
        ("browser", "deploy-browser"),
    ],
)
def test_all_of_one_kind_come_back(tmp_path: Path, client_model: str, scenario: str) -> None:
    played = deploy(tmp_path / "run", "deploy.old=1", scenario=scenario)
    assert [drain["outcome"] for drain in played.begun_by("target_health")] == ["drained"]
    seen = played.client_models[client_model]
    assert (seen["devices"], seen["connected"], seen.get("given_up", 0)) == (DEVICES, DEVICES, 0)
    # An ESP stops for good after a clean close: its gateway breaks the connection instead.
    assert seen.get("abnormal", 0) == (DEVICES if client_model == "esp-idf" else 0)
    assert played.figures["abnormal_close"] == 0


def test_a_mixed_fleet_comes_back_while_it_sends(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", "deploy.old=1", "events.period_s=0.5", scenario="deploy-mixed")
    assert all(of["connected"] == of["devices"] for of in played.client_models.values())
    assert played.figures["abnormal_close"] == 0
    acked = played.figures["acked"]
    assert acked is not None
    assert acked > 5 * DEVICES
