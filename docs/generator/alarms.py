"""Alarms from the program's own metrics, and the template that makes them: ecs/alarms.yaml for CloudWatch.

Nothing here may name a metric that does not exist: `make docs` and the tests fail then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from gateway.settings.model import Settings
from gateway.telemetry.emf import CHOSEN
from gateway.telemetry.names import GATEWAY, MANAGER, NAMESPACE
from generator.dashboards import ELB, NOTE, PERIOD, dashboard
from generator.operating import known

ABOVE, BELOW = "GreaterThanThreshold", "LessThanThreshold"
LOCATIONS = Settings().locations
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


def check(alarms: Iterable[Alarm], known: Iterable[str]) -> None:
    """Raises ValueError for a metric that the program does not have."""
    known = set(known)
    chosen = {choice.name for choice in CHOSEN}
    # Of a histogram its buckets are read.
    wrong = [choice.metric for choice in CHOSEN if choice.metric.removesuffix("_bucket") not in known]
    wrong += [alarm.metric for alarm in alarms if alarm.of not in _OF_BALANCER and alarm.metric not in chosen]
    if wrong:
        raise ValueError(f"no such metric: {', '.join(wrong)}")


def cloudformation() -> str:
    """ecs/alarms.yaml."""
    check(ALARMS, known())
    resources: dict[str, Any] = {alarm.name: _alarm(alarm) for alarm in ALARMS}
    resources["Topic"] = {"Type": "AWS::SNS::Topic", "Condition": "TellsSomebody"}
    resources["Subscription"] = {
        "Type": "AWS::SNS::Subscription",
        "Condition": "TellsSomebody",
        "Properties": {"TopicArn": {"Ref": "Topic"}, "Protocol": "email", "Endpoint": {"Ref": "Email"}},
    }
    resources["Dashboard"] = {
        "Type": "AWS::CloudWatch::Dashboard",
        "Properties": {"DashboardName": {"Ref": "AWS::StackName"}, "DashboardBody": _sub(json.dumps(dashboard()))},
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


def _yaml(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Mappings in lines of their own; what is in lists, and short mappings, as JSON, which YAML is a superset of."""
    for key, inner in value.items():
        name = key if key.replace("_", "").isalnum() else json.dumps(key)
        if isinstance(inner, Mapping) and len(json.dumps(inner)) > 80:
            yield f"{'  ' * depth}{name}:"
            yield from _yaml(inner, depth + 1)
        else:
            yield f"{'  ' * depth}{name}: {json.dumps(inner, ensure_ascii=False)}"
