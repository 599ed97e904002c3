"""Alarms and dashboards name only metrics that the program has, with the dimensions that its lines have."""

from __future__ import annotations

import importlib
import json
import re
import sys
from types import ModuleType
from typing import Any

import pytest

from gateway.drain.polling import period_s
from gateway.drain.window import longest_s, margin_s
from gateway.settings.model import Connections, Drain
from gateway.telemetry.emf import CHOSEN
from gateway.telemetry.names import NAMESPACE
from tests.support.cloudformation import Stack, read
from tests.unit.ecs.stacks import ROOT

MANAGED = ("heiwa_workflow_", "heiwa_rebalancer_")
NAMES = {choice.name for choice in CHOSEN}


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    return importlib.import_module("generator.alarms")


@pytest.fixture
def dashboards(alarms: ModuleType) -> ModuleType:
    return importlib.import_module("generator.dashboards")


@pytest.fixture
def stack() -> Stack:
    return Stack(read(ROOT / "ecs/alarms.yaml"), ServiceStack="dogs", Email="me@example.com")


def test_a_metric_that_does_not_exist_fails(alarms: ModuleType, dashboards: ModuleType) -> None:
    known = alarms.known()
    alarms.check(alarms.ALARMS, known)
    dashboards.check(dashboards.PANELS, known)
    wrong = alarms.Alarm("Wrong", "heiwa_conections", "Sum", 0, 1, "")
    with pytest.raises(ValueError, match="heiwa_conections"):
        alarms.check([wrong], known)
    with pytest.raises(ValueError, match="heiwa_nothing"):
        dashboards.check([dashboards.Panel("x", "short", (("heiwa_nothing", "sum"),))], known)
    without = [name for name in known if name != "heiwa_memory_share"]
    with pytest.raises(ValueError, match="no such metric: heiwa_memory_share"):
        alarms.check([], without)


def test_alarms_have_the_dimensions_of_the_lines(stack: Stack) -> None:
    found = stack.of_type("AWS::CloudWatch::Alarm")
    assert len(found) >= 10
    for name, alarm in found.items():
        dimensions = {pair["Name"]: pair["Value"] for pair in alarm["Dimensions"]}
        if alarm["Namespace"] == NAMESPACE:
            assert alarm["MetricName"] in NAMES, name
            assert dimensions == {"service": "dogs", "role": "gateway"}, name
        else:
            assert dimensions["LoadBalancer"] == "<imported dogs-LoadBalancer>"
        assert alarm["AlarmActions"] == ["<Topic>"]
        assert alarm["AlarmDescription"].endswith(".")


def test_managers_that_are_apart_are_watched_where_they_are(alarms: ModuleType) -> None:
    stack = Stack(read(ROOT / "ecs/alarms.yaml"), ServiceStack="dogs", WorkflowStack="runs")
    found = stack.of_type("AWS::CloudWatch::Alarm")
    watched = {name: {pair["Name"]: pair["Value"] for pair in alarm["Dimensions"]} for name, alarm in found.items()}
    of_managers = {alarm.name for alarm in alarms.ALARMS if alarm.of == "manager"}
    assert {name for name, of in watched.items() if of == {"service": "runs", "role": "manager"}} == of_managers
    assert {name for name, alarm in found.items() if alarm["MetricName"].startswith(MANAGED)} <= of_managers
    body = json.loads(stack["Dashboard"]["DashboardBody"])
    lines = [line for widget in body["widgets"] for line in widget["properties"]["metrics"] if line[0] == NAMESPACE]
    for line in lines:
        of = ("runs", "role", "manager") if line[1].startswith(MANAGED) else ("dogs", "role", "gateway")
        assert line[2:6] == ["service", *of]


def test_both_target_groups_of_a_pair_are_watched(stack: Stack) -> None:
    found = [
        one for one in stack.of_type("AWS::CloudWatch::Alarm").values() if one["MetricName"] == "UnHealthyHostCount"
    ]
    watched = {pair["Value"] for one in found for pair in one["Dimensions"] if pair["Name"] == "TargetGroup"}
    assert watched == {"<imported dogs-TargetGroup>", "<imported dogs-AlternateTargetGroup>"}


def test_nobody_is_told_without_an_address(stack: Stack) -> None:
    quiet = Stack(stack.template, ServiceStack="dogs")
    assert "AlarmActions" not in quiet["NobodyServes"]
    assert not quiet.of_type("AWS::SNS::Topic")


def test_the_dashboard_is_one(stack: Stack) -> None:
    body = json.loads(stack["Dashboard"]["DashboardBody"])
    assert len(body["widgets"]) >= 8
    for widget in body["widgets"]:
        for line in widget["properties"]["metrics"]:
            if line[0] == NAMESPACE:
                assert line[1] in NAMES
                assert line[2:6] == ["service", "dogs", "role", "gateway"]
    places = {(widget["x"], widget["y"]) for widget in body["widgets"]}
    assert len(places) == len(body["widgets"]), "none lies upon another"


def test_grafanas_dashboard_is_one(alarms: ModuleType) -> None:
    board: dict[str, Any] = json.loads((ROOT / "ecs/grafana.json").read_text())
    known = set(alarms.known())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) >= 10
    for expression in expressions:
        (name,) = re.findall(r"heiwa_\w+", expression)
        assert name in known
        assert ("rate(" in expression) == name.endswith("_total")


def test_the_readme_counts_them(alarms: ModuleType) -> None:
    text = (ROOT / "ecs/README.md").read_text()
    by_revision = sum(choice.by_revision for choice in CHOSEN)
    assert f"CloudWatch: {len(CHOSEN) + by_revision} metrics, {len(alarms.ALARMS)} alarms" in text


@pytest.mark.parametrize("delay_s", [300, 900])
def test_the_readme_says_over_how_long_devices_leave(delay_s: int) -> None:
    drain = Drain()
    window_s = longest_s(delay_s, margin_s(drain.margin_s, Connections().close_timeout_s), period_s(8, 1))
    assert f"{window_s:.0f} s at " in (ROOT / "ecs/README.md").read_text()


def test_the_readme_adds_up() -> None:
    rows = re.findall(r"^\| (.+?) \| (.*\$.*) \|$", (ROOT / "ecs/README.md").read_text(), re.MULTILINE)
    amounts = [[int(re.sub(r"\D", "", cell)) for cell in cells.split("|")] for _, cells in rows]
    *parts, together = amounts
    assert [sum(column) for column in zip(*parts, strict=True)] == together
    assert all(len(part) == 3 for part in parts)


def test_events_that_are_lost_and_events_that_are_made_up_alarm(stack: Stack) -> None:
    found = stack.of_type("AWS::CloudWatch::Alarm")
    asked = {
        (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"])
        for alarm in found.values()
        if alarm["MetricName"] == "heiwa_locations_unaccounted_events"
    }
    assert asked == {("Maximum", "GreaterThanThreshold", 0), ("Minimum", "LessThanThreshold", 0)}
