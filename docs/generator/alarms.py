"""Alarms and dashboards from the program's own metrics: ecs/alarms.yaml for CloudWatch, ecs/grafana.json for Grafana.

Nothing here may name a metric that does not exist: `make docs` and the tests fail then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from gateway.settings.model import Settings
from gateway.telemetry.emf import CHOSEN, PERIOD_S
from gateway.telemetry.names import GATEWAY, MANAGER, NAMESPACE
from generator.operating import exposed, families

NOTE = "Made by docs/generate.py from the metrics of the program (`make docs`). Do not edit."
ABOVE, BELOW = "GreaterThanThreshold", "LessThanThreshold"
LOCATIONS = Settings().locations
PERIOD = int(PERIOD_S)
ELB = "AWS/ApplicationELB"
BALANCER, ALTERNATE = "balancer", "alternate"
_OF_BALANCER = {BALANCER: "TargetGroup", ALTERNATE: "AlternateTargetGroup"}
# Managers may be tasks of their own, in another stack than the gateways; otherwise each gateway is one.
_APART = "ManagersAreApart"
_MANAGERS: Mapping[str, Any] = {
    "service": {"Fn::If": [_APART, {"Ref": "WorkflowStack"}, {"Ref": "ServiceStack"}]},
    "role": {"Fn::If": [_APART, MANAGER, GATEWAY]},
}
_GATEWAYS: Mapping[str, Any] = {"service": {"Ref": "ServiceStack"}, "role": GATEWAY}
_STACK_NAME = "[A-Za-z][A-Za-z0-9-]{0,127}"
_COLUMNS, _WIDTH, _HEIGHT = 3, 8, 6


class Alarm(NamedTuple):
    """`minutes` in a row with the statistic above (or below) the threshold; no data is no alarm unless `silent`.

    `of`: whose metric it is. `apart`: only where managers are tasks of their own.
    """

    name: str
    metric: str
    statistic: str
    threshold: float
    minutes: int
    text: str
    comparison: str = ABOVE
    silent: bool = False
    of: str = GATEWAY
    apart: bool = False


ALARMS = (
    Alarm("NobodyServes", "heiwa_serving", "Sum", 1, 5, "No task takes devices.", BELOW, silent=True),
    Alarm(
        "EventsUnaccounted",
        "heiwa_locations_unaccounted_events",
        "Maximum",
        0,
        5,
        "Events were taken in that are neither stored nor refused: a defect.",
    ),
    Alarm(
        "EventsMadeUp",
        "heiwa_locations_unaccounted_events",
        "Minimum",
        0,
        5,
        "More events were stored or refused than were taken in: a defect.",
        BELOW,
    ),
    Alarm("SpoolFails", "heiwa_locations_spool_failures", "Sum", 0, 1, "The disk takes no events: devices send again."),
    Alarm(
        "SpoolFills",
        "heiwa_locations_spool_bytes",
        "Maximum",
        0.8 * LOCATIONS.spool_max_bytes,
        1,
        "The index takes too little; when the spool is full, events are refused.",
    ),
    Alarm(
        "IndexFails", "heiwa_locations_index_failures", "Sum", 0, 5, "The index does not take all; the spool has it."
    ),
    Alarm(
        "Overflows", "heiwa_locations_overflowed", "Sum", 0, 15, "OpenSearch takes too little; Firehose has the rest."
    ),
    Alarm(
        "StreamFails", "heiwa_locations_stream_failures", "Sum", 0, 5, "Firehose does not take all; the spool has it."
    ),
    Alarm("DaysDamaged", "heiwa_locations_damaged_files", "Maximum", 0, 1, "A day of the index cannot be read whole."),
    Alarm("ClockOff", "heiwa_clock_off", "Maximum", 0, 5, "The clock of a task is off: devices send again later."),
    Alarm("MemoryShort", "heiwa_memory_share", "Maximum", 0.8, 5, "At 0.85 of its limit a task takes no new devices."),
    Alarm("LoopLate", "heiwa_event_loop_lag_seconds", "Maximum", 1, 5, "A task has too little CPU for its devices."),
    Alarm(
        "BrokerAway",
        "heiwa_broker_up",
        "Minimum",
        1,
        2,
        "A task cannot reach the others: commands to devices of other tasks are refused.",
        BELOW,
    ),
    Alarm(
        "BalancerUnseen",
        "heiwa_drain_signal_up",
        "Minimum",
        1,
        10,
        "A task cannot ask the load balancer: its drain would begin with SIGTERM only. See the task role.",
        BELOW,
    ),
    Alarm(
        "WeightsUnseen",
        "heiwa_shift_signal_up",
        "Minimum",
        1,
        30,
        "A task cannot ask for the deployment of its service: its connections would not follow the weights.",
        BELOW,
    ),
    Alarm(
        "DrainLeftovers",
        "heiwa_drain_leftover",
        "Sum",
        0,
        1,
        "Devices were cut: the drain had no time. Raise the delay.",
    ),
    Alarm("OurFault", "heiwa_disconnects_our_fault", "Sum", 100, 5, "The gateway ends connections by its own fault."),
    Alarm(
        "ManyRefused",
        "heiwa_handshakes_refused",
        "Sum",
        5000,
        5,
        "Many handshakes are refused: a storm, or too few tasks.",
    ),
    Alarm(
        "AttemptsLost",
        "heiwa_workflow_attempts_lost",
        "Sum",
        10,
        5,
        "Nobody knows how attempts of workflows ended: jobs die, or report to nobody.",
        of=MANAGER,
    ),
    Alarm(
        "ManagersLost",
        "heiwa_rebalancer_takeovers",
        "Sum",
        0,
        1,
        "A manager of workflows did not answer; others have its runs now.",
        of=MANAGER,
    ),
    Alarm(
        "ManagerStands",
        "heiwa_workflow_loop_stood",
        "Sum",
        10,
        5,
        "Runs hold up the loop of their manager: the log names them.",
        of=MANAGER,
    ),
    Alarm(
        "NobodyManages",
        "heiwa_rebalancer_managers",
        "Maximum",
        1,
        5,
        "No manager of workflows is there: all runs stand still.",
        BELOW,
        silent=True,
        of=MANAGER,
        apart=True,
    ),
    Alarm(
        "ManagerMemoryShort",
        "heiwa_memory_share",
        "Maximum",
        0.8,
        5,
        "A manager of workflows has too many runs for its memory.",
        of=MANAGER,
        apart=True,
    ),
    Alarm(
        "ManagerBrokerAway",
        "heiwa_broker_up",
        "Minimum",
        1,
        2,
        "A manager of workflows cannot reach the gateways: commands to devices fail.",
        BELOW,
        of=MANAGER,
        apart=True,
    ),
    Alarm("TargetsUnhealthy", "UnHealthyHostCount", "Maximum", 0, 5, "Tasks fail their health checks.", of=BALANCER),
    # By weights, where each deploy moves all tasks to the other target group of the pair.
    Alarm(
        "AlternatesUnhealthy", "UnHealthyHostCount", "Maximum", 0, 5, "Tasks fail their health checks.", of=ALTERNATE
    ),
    Alarm(
        "BalancerRefuses",
        "RejectedConnectionCount",
        "Sum",
        0,
        1,
        "The load balancer is at its limit of connections.",
        of=BALANCER,
    ),
)


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


def check(alarms: Iterable[Alarm], panels: Iterable[Panel], known: Iterable[str]) -> None:
    """Raises ValueError for a metric that the program does not have."""
    known = set(known)
    chosen = {choice.name for choice in CHOSEN}
    # Of a histogram its buckets are read.
    wrong = [choice.metric for choice in CHOSEN if choice.metric.removesuffix("_bucket") not in known]
    wrong += [alarm.metric for alarm in alarms if alarm.of not in _OF_BALANCER and alarm.metric not in chosen]
    wrong += [name for panel in panels for name, _ in panel.lines if name not in known]
    if wrong:
        raise ValueError(f"no such metric: {', '.join(wrong)}")


def known() -> list[str]:
    """All metrics of the program, as Prometheus names them."""
    return [exposed(one) for one in asyncio.run(families())]


def cloudformation() -> str:
    """ecs/alarms.yaml."""
    check(ALARMS, PANELS, known())
    resources: dict[str, Any] = {alarm.name: _alarm(alarm) for alarm in ALARMS}
    resources["Topic"] = {"Type": "AWS::SNS::Topic", "Condition": "TellsSomebody"}
    resources["Subscription"] = {
        "Type": "AWS::SNS::Subscription",
        "Condition": "TellsSomebody",
        "Properties": {"TopicArn": {"Ref": "Topic"}, "Protocol": "email", "Endpoint": {"Ref": "Email"}},
    }
    resources["Dashboard"] = {
        "Type": "AWS::CloudWatch::Dashboard",
        "Properties": {"DashboardName": {"Ref": "AWS::StackName"}, "DashboardBody": _sub(json.dumps(_dashboard()))},
    }
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Alarms and a dashboard of Heiwa in CloudWatch, for a stack of ecs/service.yaml.",
        "Parameters": {
            "ServiceStack": {
                "Type": "String",
                "Description": "The name of the stack of ecs/service.yaml.",
                "AllowedPattern": f"^{_STACK_NAME}$",
            },
            "WorkflowStack": {
                "Type": "String",
                "Description": "The name of the stack of ecs/workflows.yaml. Empty - the gateways manage workflows.",
                "AllowedPattern": f"^({_STACK_NAME})?$",
                "Default": "",
            },
            "Email": {
                "Type": "String",
                "Description": "Who is told. Empty - nobody; the alarms are seen in the console only.",
                "AllowedPattern": "^(\\S+@\\S+)?$",
                "Default": "",
            },
        },
        "Conditions": {"TellsSomebody": _given("Email"), _APART: _given("WorkflowStack")},
        "Resources": resources,
        "Outputs": {"Dashboard": {"Value": {"Ref": "Dashboard"}}},
    }
    return "\n".join([f"# {NOTE}", *_yaml(template, 0)]) + "\n"


def grafana() -> str:
    """ecs/grafana.json: import it, and choose the Prometheus that scrapes the gateways."""
    check(ALARMS, PANELS, known())
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


def _alarm(alarm: Alarm) -> dict[str, Any]:
    dimensions: Mapping[str, Any] = _MANAGERS if alarm.of == MANAGER else _GATEWAYS
    if alarm.apart:
        dimensions = {"service": {"Ref": "WorkflowStack"}, "role": MANAGER}
    if alarm.of in _OF_BALANCER:
        dimensions = {"LoadBalancer": _imported("LoadBalancer")}
        if alarm.metric == "UnHealthyHostCount":
            dimensions = {**dimensions, "TargetGroup": _imported(_OF_BALANCER[alarm.of])}
    actions = {"Fn::If": ["TellsSomebody", [{"Ref": "Topic"}], {"Ref": "AWS::NoValue"}]}
    return {
        "Type": "AWS::CloudWatch::Alarm",
        **({"Condition": _APART} if alarm.apart else {}),
        "Properties": {
            "AlarmDescription": alarm.text,
            "Namespace": ELB if alarm.of in _OF_BALANCER else NAMESPACE,
            "MetricName": alarm.metric,
            "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
            "Statistic": alarm.statistic,
            "Period": PERIOD,
            "EvaluationPeriods": alarm.minutes,
            "Threshold": alarm.threshold,
            "ComparisonOperator": alarm.comparison,
            "TreatMissingData": "breaching" if alarm.silent else "notBreaching",
            "AlarmActions": actions,
            "OKActions": actions,
        },
    }


def _given(parameter: str) -> dict[str, Any]:
    return {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, ""]}]}


def _imported(name: str) -> dict[str, Any]:
    return {"Fn::ImportValue": {"Fn::Sub": f"${{ServiceStack}}-{name}"}}


def _sub(text: str) -> dict[str, Any]:
    replaced = {"LoadBalancer": _imported("LoadBalancer")}
    return {"Fn::Sub": [text, {**replaced, "Managers": _MANAGERS["service"], "ManagerRole": _MANAGERS["role"]}]}


def _dashboard() -> dict[str, Any]:
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


def _yaml(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Mappings in lines of their own; what is in lists, and short mappings, as JSON, which YAML is a superset of."""
    for key, inner in value.items():
        name = key if key.replace("_", "").isalnum() else json.dumps(key)
        if isinstance(inner, Mapping) and len(json.dumps(inner)) > 80:
            yield f"{'  ' * depth}{name}:"
            yield from _yaml(inner, depth + 1)
        else:
            yield f"{'  ' * depth}{name}: {json.dumps(inner, ensure_ascii=False)}"
