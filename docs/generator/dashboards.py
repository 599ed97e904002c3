"""Dashboards from the program's own metrics: for CloudWatch in ecs/alarms.yaml, for Grafana in ecs/grafana.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.telemetry.emf import CHOSEN, PERIOD_S
from gateway.telemetry.names import GATEWAY, NAMESPACE
from generator.operating import known

NOTE = "Made by docs/generate.py from the metrics of the program (`make docs`). Do not edit."
PERIOD = int(PERIOD_S)
ELB = "AWS/ApplicationELB"
_COLUMNS, _WIDTH, _HEIGHT = 3, 8, 6


class Panel(NamedTuple):
    """`lines`: what Prometheus has, and how it is drawn: `sum`, `max`, or `rate` (a second, of a counter)."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]


PANELS = (
    Panel("Connections", "short", (("heiwa_connections", "sum"), ("heiwa_connections_maximum", "sum"))),
    Panel(
        "Handshakes", "ops", (("heiwa_connections_opened_total", "rate"), ("heiwa_handshakes_refused_total", "rate"))
    ),
    Panel("Disconnects", "ops", (("heiwa_disconnects_total", "rate"),)),
    Panel("Drain", "short", (("heiwa_drain_connections_remaining", "sum"), ("heiwa_drain_rate_actual", "sum"))),
    Panel("Load balancer", "s", (("heiwa_drain_poll_age_seconds", "max"),)),
    Panel(
        "Locations",
        "ops",
        (
            ("heiwa_locations_accepted_total", "rate"),
            ("heiwa_locations_acknowledged_total", "rate"),
            ("heiwa_locations_refused_total", "rate"),
        ),
    ),
    Panel("Spool", "short", (("heiwa_locations_spool_events", "sum"), ("heiwa_locations_pending_events", "sum"))),
    Panel("Commands", "ops", (("heiwa_commands_total", "rate"),)),
    Panel("Broker", "short", (("heiwa_broker_up", "sum"), ("heiwa_directory_due", "sum"))),
    Panel(
        "Workflows",
        "ops",
        (("heiwa_workflow_transitions_total", "rate"), ("heiwa_workflow_runs_ended_total", "rate")),
    ),
    Panel("Attempts", "ops", (("heiwa_workflow_attempts_total", "rate"),)),
    Panel("Runs", "short", (("heiwa_workflow_runs", "sum"), ("heiwa_workflow_runs_waiting", "sum"))),
    Panel("Memory", "percentunit", (("heiwa_memory_share", "max"),)),
    Panel("Event loop", "s", (("heiwa_event_loop_lag_seconds", "max"),)),
)


def check(panels: Iterable[Panel], known: Iterable[str]) -> None:
    """Raises ValueError for a metric that the program does not have."""
    wrong = {name for panel in panels for name, _ in panel.lines}.difference(known)
    if wrong:
        raise ValueError(f"no such metric: {', '.join(sorted(wrong))}")


def grafana() -> str:
    """ecs/grafana.json: import it, and choose the Prometheus that scrapes the gateways."""
    check(PANELS, known())
    board = {
        "title": "Heiwa",
        "uid": "heiwa",
        "description": NOTE,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [_grafana_panel(number, panel) for number, panel in enumerate(PANELS)],
    }
    return json.dumps(board, indent=2) + "\n"


def dashboard() -> dict[str, Any]:
    """The body of one of CloudWatch, with the placeholders of ecs/alarms.yaml."""
    check(PANELS, known())
    by_metric = {choice.metric: choice for choice in CHOSEN if not choice.labels}
    widgets = []
    for panel in PANELS:
        shown = [(by_metric[name].name, how) for name, how in panel.lines if name in by_metric]
        if shown:
            widgets.append(_widget(len(widgets), panel.title, [_line(name, how) for name, how in shown]))
    wanted = 'MetricName="heiwa_connections" service="${ServiceStack}"'
    revisions = f"SEARCH('{{{NAMESPACE},service,role,revision}} {wanted}', 'Sum', {PERIOD})"
    widgets.append(_widget(len(widgets), "Connections by revision", [[{"expression": revisions, "id": "r"}]]))
    states = [_line(name, "sum") for name in ("heiwa_serving", "heiwa_draining")]
    widgets.append(_widget(len(widgets), "Tasks", states))
    active = [ELB, "ActiveConnectionCount", "LoadBalancer", "${LoadBalancer}", {"stat": "Sum"}]
    widgets.append(_widget(len(widgets), "Load balancer's connections", [active]))
    return {"widgets": widgets}


def _line(name: str, how: str) -> list[Any]:
    statistic = "Maximum" if how == "max" else "Sum"
    managed = name.startswith(("heiwa_workflow_", "heiwa_rebalancer_"))
    service, role = ("${Managers}", "${ManagerRole}") if managed else ("${ServiceStack}", GATEWAY)
    return [NAMESPACE, name, "service", service, "role", role, {"stat": statistic}]


def _widget(number: int, title: str, metrics: list[Any]) -> dict[str, Any]:
    place = {"x": number % _COLUMNS * _WIDTH, "y": number // _COLUMNS * _HEIGHT, "width": _WIDTH, "height": _HEIGHT}
    shown = {"title": title, "region": "${AWS::Region}", "view": "timeSeries", "period": PERIOD, "metrics": metrics}
    return {"type": "metric", **place, "properties": shown}


def _grafana_panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    targets = [
        {"refId": chr(65 + index), "datasource": source, "expr": _promql(name, how), "legendFormat": name}
        for index, (name, how) in enumerate(panel.lines)
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": number % _COLUMNS * _WIDTH, "y": number // _COLUMNS * _WIDTH, "w": _WIDTH, "h": _WIDTH},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": targets,
    }


def _promql(name: str, how: str) -> str:
    return f"sum(rate({name}[2m]))" if how == "rate" else f"{how}({name})"
