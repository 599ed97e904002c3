"""The way of a connection: from the device to the task."""

from __future__ import annotations

import re

from gateway.settings.model import Settings
from tests.support.cloudformation import Stack
from tests.unit.ecs.rules.registry import (
    service_rule,
)
from tests.unit.ecs.stacks import (
    PARAMETERS,
    attributes_of,
    container_of,
    dockerfile,
    environment_of,
    group_of,
)


@service_rule
def the_delay_leaves_time_for_the_drain(stack: Stack) -> None:
    """A parameter from 300 to 900 s; AWS takes 0 to 3600."""
    parameter = stack.template["Parameters"]["DeregistrationDelay"]
    assert parameter["Type"] == "Number"
    assert (parameter["MinValue"], parameter["MaxValue"]) == (300, 900)
    assert 300 <= int(group_of(stack)["deregistration_delay.timeout_seconds"]) <= 900


@service_rule
def routing_is_round_robin_without_stickiness(stack: Stack) -> None:
    """Least outstanding requests would send a whole wave to the newest task; stickiness brings devices back to one."""
    assert group_of(stack)["load_balancing.algorithm.type"] == "round_robin"
    assert group_of(stack)["stickiness.enabled"] == "false"


@service_rule
def health_is_whether_the_process_lives(stack: Stack) -> None:
    """/readyz is 503 in a manual drain. Slow to condemn: a busy second must not cost thousands of devices."""
    group = stack["TargetGroup"]
    assert (group["HealthCheckPath"], group["Matcher"]) == ("/livez", {"HttpCode": "200"})
    assert group.get("HealthCheckEnabled", True)
    assert "HealthCheckPort" not in group
    assert group["HealthCheckTimeoutSeconds"] < group["HealthCheckIntervalSeconds"]
    assert group["HealthCheckIntervalSeconds"] * group["UnhealthyThresholdCount"] >= 30
    assert group["HealthCheckIntervalSeconds"] * group["HealthyThresholdCount"] <= 30


@service_rule
def targets_are_addresses_of_tasks(stack: Stack) -> None:
    """With awsvpc the task is the target, not its instance; the listener speaks plain HTTP to it."""
    group = stack["TargetGroup"]
    assert (group["TargetType"], group["Protocol"], group["VpcId"]) == ("ip", "HTTP", "<VpcId>")
    assert group.get("ProtocolVersion", "HTTP1") == "HTTP1"
    assert stack["TaskDefinition"]["NetworkMode"] == "awsvpc"


@service_rule
def the_balancer_outwaits_a_heartbeat(stack: Stack) -> None:
    """Above twice the heartbeat, within what AWS takes; and no websocket is older than the keep-alive of clients."""
    balancer = stack["LoadBalancer"]
    attributes = attributes_of(balancer["LoadBalancerAttributes"])
    connections = Settings().connections
    assert 2 * connections.heartbeat_s < int(attributes["idle_timeout.timeout_seconds"]) <= 4000
    oldest_s = float(connections.max_age_h.partition("-")[2]) * 3600
    assert oldest_s <= int(attributes["client_keep_alive.seconds"]) <= 604_800
    assert attributes["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert balancer["Type"] == "application"


@service_rule
def devices_come_by_tls_only(stack: Stack) -> None:
    """One listener, HTTPS with a certificate, TLS 1.2 or newer."""
    (listener,) = stack.of_type("AWS::ElasticLoadBalancingV2::Listener").values()
    assert (listener["Protocol"], listener["Port"]) == ("HTTPS", 443)
    assert listener["Certificates"] == [{"CertificateArn": "<CertificateArn>"}]
    assert listener["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2-")
    assert listener["DefaultActions"] == [{"Type": "forward", "TargetGroupArn": "<TargetGroup>"}]
    assert listener["LoadBalancerArn"] == "<LoadBalancer>"


@service_rule
def nobody_reaches_a_task_but_through_the_balancer(stack: Stack) -> None:
    """Security groups, subnets, no public address; from where devices come is said by whoever deploys."""
    (devices,) = stack["BalancerSecurityGroup"]["SecurityGroupIngress"]
    assert (devices["FromPort"], devices["ToPort"], devices["CidrIp"]) == (443, 443, PARAMETERS["ClientCidr"])
    assert "Default" not in stack.template["Parameters"]["ClientCidr"]
    (ingress,) = stack["TaskSecurityGroup"]["SecurityGroupIngress"]
    assert ingress["SourceSecurityGroupId"] == "<BalancerSecurityGroup.GroupId>"
    assert (ingress["FromPort"], ingress["ToPort"]) == (8080, 8080)
    assert stack["LoadBalancer"]["Subnets"] == "<PublicSubnetIds>"
    assert stack["LoadBalancer"]["SecurityGroups"] == ["<BalancerSecurityGroup.GroupId>"]
    network = stack["Service"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "DISABLED"
    assert network["Subnets"] == "<PrivateSubnetIds>"
    assert network["SecurityGroups"] == ["<TaskSecurityGroup.GroupId>"]


@service_rule
def one_port_all_the_way(stack: Stack) -> None:
    """The balancer's names are the task definition's; the port is what the program listens on and the image exposes."""
    (balancer,) = stack["Service"]["LoadBalancers"]
    container = container_of(stack)
    assert balancer["ContainerName"] == container["Name"]
    assert balancer["TargetGroupArn"] == "<TargetGroup>"
    port = balancer["ContainerPort"]
    assert container["PortMappings"] == [{"ContainerPort": port, "Protocol": "tcp"}]
    assert stack["TargetGroup"]["Port"] == port == int(dockerfile("EXPOSE"))
    assert environment_of(stack)["HEIWA_LISTEN__PUBLIC"] == f"0.0.0.0:{port}"
    assert stack.template["Resources"]["Service"]["DependsOn"] == "Listener"


@service_rule
def the_balancers_word_on_addresses_is_believed(stack: Stack) -> None:
    """The VPC's network, and never everybody's."""
    assert environment_of(stack)["HEIWA_LISTEN__TRUSTED_PROXIES"] == PARAMETERS["VpcCidr"]
    pattern = stack.template["Parameters"]["VpcCidr"]["AllowedPattern"]
    assert re.fullmatch(pattern, "10.0.0.0/16")
    assert not re.fullmatch(pattern, "0.0.0.0/0")
