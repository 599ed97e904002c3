"""A deploy behind a real HAProxy: devices that are sent away in time see a close frame, the others are cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.cloud import haproxy
from tests.support.deploys import DEVICES, deploy
from tests.support.loadtests import run
from tests.support.packages import need

pytestmark = pytest.mark.deploy
BEHIND = "deploy.balancer=haproxy"
# The old gateways hang from just before SIGTERM until well after the cut, so that it finds the remaining connections.
HANGING = ("deploy.faults.stall_at_s=118", "deploy.faults.stall_s=150")


@pytest.fixture(autouse=True)
def _haproxy() -> None:
    need("haproxy", haproxy.find)


@pytest.mark.parametrize("special", [HANGING, ("deploy.routing=least_outstanding",)])
def test_with_the_drain_no_connection_is_cut(tmp_path: Path, special: tuple[str, ...]) -> None:
    played = deploy(tmp_path / "run", BEHIND, *special)
    drains = played.begun_by("target_health")
    assert [drain["outcome"] for drain in drains] == ["drained", "drained"]
    # One that comes back before HAProxy was told of both is sent away again.
    assert DEVICES <= sum(drain["sent_away"] for drain in drains) <= DEVICES * 1.1
    assert played.happened("SIGTERM")
    assert played.figures["abnormal_close"] == 0
    assert 2 * DEVICES <= (played.figures["connects"] or 0) <= 2.1 * DEVICES


def test_without_the_drain_the_cut_finds_all_connections(tmp_path: Path) -> None:
    played = deploy(tmp_path / "run", BEHIND, *HANGING, "deploy.drain=false")
    assert not played.begun_by("target_health")
    assert played.result["closed"]["1006"] == DEVICES
    assert played.figures["abnormal_close"] == DEVICES


def test_a_fleet_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    done = run("run", "deploy", "--devices", "9001", "--set", BEHIND, "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "two files of one process" in done.stderr
    assert not (tmp_path / "run").exists()
