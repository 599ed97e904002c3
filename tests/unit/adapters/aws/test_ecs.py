"""What is read out of task metadata and of Amazon ECS's answers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import json

from gateway.adapters.aws.ecs import Entry, entries, host_port, service_of, stop_timeout_s
from gateway.adapters.aws.ecs_metadata import Identity, identity, present
from gateway.errors import CallError, CallErrorKind

# Shortened from "Amazon ECS task metadata v4 examples" of the developer guide.
TASK: dict[str, Any] = {
    "Cluster": "arn:aws:ecs:us-west-2:111122223333:cluster/default",
    "TaskARN": "arn:aws:ecs:us-west-2:111122223333:task/default/158d1c8083dd49d6b527399fd6414f5c",
    "Family": "curltest",
    "ServiceName": "MyService",
    "Revision": "26",
    "DesiredStatus": "RUNNING",
    "Limits": {"CPU": 0.25, "Memory": 512},
    "Containers": [{"Name": "~internal~ecs~pause"}],
}
CONTAINER: dict[str, Any] = {
    "DockerId": "ea32192c8553fbff06c9340478a2ff089b2bb5646fb718b4ee206641c9086d66",
    "Name": "curl",
    "Networks": [
        {
            "NetworkMode": "awsvpc",
            "IPv4Addresses": ["10.0.2.100"],
            "AttachmentIndex": 0,
            "MACAddress": "0e:9e:32:c7:48:85",
            "IPv4SubnetCIDRBlock": "10.0.2.0/24",
        }
    ],
}
BRIDGE = {"Name": "curl", "Networks": [{"NetworkMode": "bridge", "IPv4Addresses": ["172.17.0.2"]}]}
HOST = {"Name": "curl", "Networks": [{"NetworkMode": "host", "IPv4Addresses": [""]}]}


def read(task: object = TASK, container: object = CONTAINER) -> Identity:
    return identity(json.encode(task), json.encode(container))


def test_an_awsvpc_task_has_its_own_address() -> None:
    assert read() == Identity(
        task=TASK["TaskARN"],
        cluster=TASK["Cluster"],
        definition="curltest:26",
        container="curl",
        service="MyService",
        address="10.0.2.100",
        network_mode="awsvpc",
    )


@pytest.mark.parametrize("container", [BRIDGE, HOST, {"Name": "curl"}])
def test_other_tasks_have_the_instance_for_a_target(container: object) -> None:
    assert read(container=container).address == ""


def test_an_address_of_ipv6_only() -> None:
    network = {"NetworkMode": "awsvpc", "IPv6Addresses": ["2001:db8::7"]}
    assert read(container={"Name": "curl", "Networks": [network]}).address == "2001:db8::7"


def test_all_addresses_of_a_task_are_its_own() -> None:
    networks = [
        {"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.100"], "IPv6Addresses": ["2001:db8::7", "2001:db8::8"]},
        {"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.3.100"]},
    ]
    found = read(container={"Name": "curl", "Networks": networks})
    assert found.address == "10.0.2.100"
    assert found.also == ("10.0.3.100", "2001:db8::7", "2001:db8::8")


def test_a_task_without_a_service_name() -> None:
    task = {key: value for key, value in TASK.items() if key not in ("ServiceName", "Revision")}
    assert (read(task).service, read(task).definition) == ("", "")


@pytest.mark.parametrize(
    ("task", "container"),
    [
        (b"", b"{}"),
        (b"[]", b"[]"),
        (b"\xff\xfe", b"{}"),
        (json.encode(TASK), b"{}"),
        (b"{}", json.encode(CONTAINER)),
        (json.encode(TASK), b'{"Name":"curl","Networks":[{"NetworkMode":"awsvpc"}]}'),
        (json.encode(TASK), b'{"Name":"curl","Networks":"none"}'),
    ],
)
def test_metadata_that_says_too_little_is_an_error(task: bytes, container: bytes) -> None:
    with pytest.raises(CallError) as caught:
        identity(task, container)
    assert caught.value.kind is CallErrorKind.OTHER


def test_both_groups_of_a_blue_green_pair_are_found() -> None:
    service = {
        "loadBalancers": [
            {
                "targetGroupArn": "blue",
                "containerName": "gateway",
                "containerPort": 8080,
                "advancedConfiguration": {"alternateTargetGroupArn": "green", "roleArn": "x"},
            },
            {"loadBalancerName": "classic", "containerName": "gateway", "containerPort": 80},
        ],
        "taskSets": [
            {"loadBalancers": [{"targetGroupArn": "blue", "containerName": "gateway", "containerPort": 1}]},
            {"loadBalancers": [{"targetGroupArn": "third", "containerName": "proxy", "containerPort": 443}]},
        ],
    }
    assert entries(service) == [
        Entry("blue", "gateway", 8080),
        Entry("green", "gateway", 8080),
        Entry("third", "proxy", 443),
    ]
    assert entries({}) == []


def test_the_port_of_the_instance() -> None:
    bindings = [{"containerPort": 9, "hostPort": 1}, {"containerPort": 8080, "hostPort": 32768, "protocol": "tcp"}]
    task = {"containers": [{"name": "other"}, {"name": "gateway", "networkBindings": bindings}]}
    assert host_port(task, "gateway", 8080) == 32768
    assert host_port(task, "gateway", 81) == 0
    assert host_port({}, "gateway", 81) == 0


def test_the_service_of_a_task() -> None:
    assert service_of({"group": "service:web"}) == "web"
    assert service_of({"group": "family:web"}) == service_of({}) == ""


def test_the_stop_timeout_is_the_own_containers() -> None:
    definition = {
        "containerDefinitions": [{"name": "proxy", "stopTimeout": 5}, {"name": "gateway", "stopTimeout": 120}]
    }
    assert stop_timeout_s(definition, "gateway") == 120
    assert stop_timeout_s(definition, "none") is None
    assert stop_timeout_s({"containerDefinitions": [{"name": "gateway"}]}, "gateway") is None


def test_where_ecs_is() -> None:
    assert present({"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x"})
    assert not present({"ECS_CONTAINER_METADATA_URI_V4": ""})
