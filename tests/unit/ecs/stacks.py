"""The templates of ecs/, how they are deployed in tests, and what the rules ask of a stack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.cloudformation import Stack

ROOT = Path(__file__).parents[3]
SERVICE, DATA, WORKFLOWS = ROOT / "ecs/service.yaml", ROOT / "ecs/data.yaml", ROOT / "ecs/workflows.yaml"
# As a person deploys it: with a key of its own, with a secret that exists, with an issuer, with the data stack.
EXAMPLES: dict[str, dict[str, Any]] = {
    "alone": {},
    "own secret": {"AuthSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:heiwa-abc"},
    "issuer": {"JwksUrl": "https://issuer.example/keys", "Audience": "heiwa"},
    "blue/green": {"Strategy": "BLUE_GREEN", "Guard": "yes"},
    "linear": {"Strategy": "LINEAR", "Guard": "yes"},
    "canary": {"Strategy": "CANARY", "StepPercent": 5, "DeregistrationDelay": 600},
    "data": {"DataStack": "heiwa-data", "Size": "large", "DeregistrationDelay": 900},
    "workflows": {"DataStack": "heiwa-data", "WorkflowStack": "heiwa-workflows", "Runners": "device,batch"},
}
_ARN = "arn:aws:{}:eu-west-1:123456789012:{}".format
# Managers: alone, and with all of their runners.
MANAGERS: dict[str, dict[str, Any]] = {
    "devices": {},
    "jobs": {
        "Runners": "device,batch,ecs",
        "JobsUrl": "https://jobs.example",
        "BatchQueueArns": _ARN("batch", "job-queue/etl"),
        "BatchJobDefinitionArns": _ARN("batch", "job-definition/load:*"),
        "EcsClusterArn": _ARN("ecs", "cluster/main"),
        "EcsTaskDefinitionArns": _ARN("ecs", "task-definition/load:*"),
        "EcsRoleArns": "arn:aws:iam::123456789012:role/load",
    },
}
MANAGER_PARAMETERS = {
    "Image": "heiwa@sha256:" + "0" * 64,
    "DataStack": "heiwa-data",
}
PARAMETERS = {"VpcCidr": "10.0.0.0/16", "ClientCidr": "0.0.0.0/0", "Image": "heiwa@sha256:" + "0" * 64}
# Amazon ECS developer guide, "Task definition parameters for Fargate": CPU units to MiB.
FARGATE_MIB = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
}


def attributes_of(pairs: list[dict[str, Any]]) -> dict[str, str]:
    """Of keys and values, as Elastic Load Balancing has them."""
    return {pair["Key"]: str(pair["Value"]) for pair in pairs}


def group_of(stack: Stack) -> dict[str, str]:
    """The attributes of the target group."""
    return attributes_of(stack["TargetGroup"]["TargetGroupAttributes"])


def container_of(stack: Stack) -> dict[str, Any]:
    """The only one of the task."""
    (container,) = stack["TaskDefinition"]["ContainerDefinitions"]
    found: dict[str, Any] = container
    return found


def environment_of(stack: Stack) -> dict[str, str]:
    """Of that container, without its secrets."""
    return {one["Name"]: one["Value"] for one in container_of(stack)["Environment"]}


def dockerfile(instruction: str) -> str:
    """The last one of a kind, its lines joined."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    return str(re.findall(rf"^{instruction} (.*)$", text, re.MULTILINE)[-1]).strip()


def statements(role: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of the inline policies of a role."""
    for policy in role.get("Policies", ()):
        yield from policy["PolicyDocument"]["Statement"]


def as_list(value: Any) -> list[Any]:
    """One, or several, as templates have it."""
    return value if isinstance(value, list) else [value]
