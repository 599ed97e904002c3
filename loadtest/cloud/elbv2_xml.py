"""The Query protocol of Elastic Load Balancing: form fields in, XML out (version 2015-12-01)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from xml.sax.saxutils import escape

from loadtest.cloud.elbv2 import ElbError, Elbv2, Group, TargetAddress, TargetHealthDescription

NAMESPACE = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"
REQUEST_ID = "00000000-0000-0000-0000-000000000000"


def answer(elb: Elbv2, form: Mapping[str, str], scale: float = 1.0) -> str:
    """The XML of an action's answer; seconds are divided by `scale`. Raises ElbError."""
    action = form.get("Action", "")
    handlers: dict[str, Callable[[], str]] = {
        "DescribeTargetHealth": lambda: _health(elb, form),
        "DescribeTargetGroupAttributes": lambda: _attributes(elb, form, scale),
        "DescribeTargetGroups": lambda: _groups(elb, form),
        "DescribeLoadBalancerAttributes": lambda: _balancer_attributes(elb, form),
    }
    if action not in handlers:
        raise ElbError("InvalidAction", f"Could not find operation {action} for version 2015-12-01")
    result = _tag(f"{action}Result", handlers[action]())
    return f'<{action}Response xmlns="{NAMESPACE}">{result}{_metadata()}</{action}Response>'


def error(code: str, message: str, status: int) -> str:
    """The XML of an error."""
    kind = "Receiver" if status >= 500 else "Sender"
    inside = _tag("Type", kind) + _text("Code", code) + _text("Message", message)
    return f'<ErrorResponse xmlns="{NAMESPACE}">{_tag("Error", inside)}{_text("RequestId", REQUEST_ID)}</ErrorResponse>'


def _health(elb: Elbv2, form: Mapping[str, str]) -> str:
    arn = _needed(form, "TargetGroupArn")
    wanted: list[TargetAddress] = []
    for number in range(1, len(form) + 1):
        id = form.get(f"Targets.member.{number}.Id")
        if id is not None:
            wanted.append((id, int(form.get(f"Targets.member.{number}.Port", 0))))
    targets = elb.describe_target_health(arn, wanted)
    shifted = elb.group(arn).zonal_shift
    return _tag("TargetHealthDescriptions", _members(_target(target, shifted) for target in targets))


def _target(target: TargetHealthDescription, shifted: bool) -> str:
    said = _text("State", target.state.value)
    if target.reason:
        said += _text("Reason", target.reason) + _text("Description", target.description)
    override = ""
    if shifted:
        state = _text("State", "zonal_shift_active") + _text("Reason", "AdministrativeOverride.ZonalShiftActive")
        override = _tag("AdministrativeOverride", state)
    port = str(target.port)
    own = _tag("Target", _text("Id", target.id) + _text("Port", port))
    return _text("HealthCheckPort", port) + _tag("TargetHealth", said) + own + override


def _attributes(elb: Elbv2, form: Mapping[str, str], scale: float) -> str:
    group = elb.describe_attributes(_needed(form, "TargetGroupArn"))
    values = {
        "stickiness.enabled": str(group.stickiness).lower(),
        "deregistration_delay.timeout_seconds": f"{group.delay_s / scale:g}",
    }
    if group.network:
        values["deregistration_delay.connection_termination.enabled"] = str(group.termination).lower()
        values["proxy_protocol_v2.enabled"] = "false"
    else:
        values["load_balancing.algorithm.type"] = group.algorithm
    return _pairs(values)


def _balancer_attributes(elb: Elbv2, form: Mapping[str, str]) -> str:
    """Each group has a load balancer of its own, whose ARN ends with the group's."""
    arn = _needed(form, "LoadBalancerArn").replace(":loadbalancer/app/", ":targetgroup/")
    return _pairs({"idle_timeout.timeout_seconds": f"{elb.group(arn).idle_timeout_s:g}"})


def _pairs(values: Mapping[str, str]) -> str:
    lines = (_text("Key", key) + _text("Value", value) for key, value in values.items())
    return _tag("Attributes", _members(lines))


def _groups(elb: Elbv2, form: Mapping[str, str]) -> str:
    arns = [value for key, value in form.items() if key.startswith("TargetGroupArns.member.")]
    return _tag("TargetGroups", _members(_group(group) for group in elb.describe_groups(arns)))


def _group(group: Group) -> str:
    arn, name = _text("TargetGroupArn", group.arn), _text("TargetGroupName", group.name)
    check = _text("HealthCheckPath", group.health_path) + _tag("Matcher", _text("HttpCode", "200"))
    balancer = group.arn.replace(":targetgroup/", ":loadbalancer/app/")
    balancers = _tag("LoadBalancerArns", _members([escape(balancer)]))
    return arn + name + _text("Protocol", group.protocol) + _text("TargetType", "ip") + check + balancers


def _needed(form: Mapping[str, str], key: str) -> str:
    if key not in form:
        raise ElbError("ValidationError", f"A value for {key} is required")
    return form[key]


def _members(items: Iterable[str]) -> str:
    return "".join(_tag("member", item) for item in items)


def _metadata() -> str:
    return _tag("ResponseMetadata", _text("RequestId", REQUEST_ID))


def _text(name: str, value: str) -> str:
    return _tag(name, escape(value))


def _tag(name: str, inside: str) -> str:
    return f"<{name}>{inside}</{name}>"
