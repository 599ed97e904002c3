"""AWS stand-ins on this machine, and the SDK's environment pointing at them and nowhere else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from gateway.drain.deployment import Strategy
from loadtest.cloud.deployments import RevisionRecord, ServiceDeployment, configuration
from loadtest.cloud.ecs_records import Ecs, EcsTask, ServiceLoadBalancer
from loadtest.cloud.elbv2 import DEFAULT_DELAY_S, Elbv2
from loadtest.cloud.endpoints import Endpoints
from tests.support.fake_clock import FakeClock

TASK, SERVICE, ADDRESS, PORT = "5f1a", "web", "10.0.0.1", 8080


def point_at(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Set these variables in this process, and remove those of the machine for AWS."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "ECS_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


class Cloud:
    """One service with one target group and one task. The clock is `now_s`, or one that only tests move."""

    def __init__(
        self, scale: float = 1.0, now_s: Callable[[], float] | None = None, delay_s: float = DEFAULT_DELAY_S
    ) -> None:
        self.clock = FakeClock()
        self.elb = Elbv2(now_s or self.clock.monotonic_s)
        self.group = self.elb.add_group("web", delay_s)
        self.ecs = Ecs(services={SERVICE: [ServiceLoadBalancer(self.group)]})
        self.task = self.ecs.add_task(EcsTask(TASK, SERVICE, ADDRESS))
        self.endpoints = Endpoints(self.elb, self.ecs, scale)

    def serve(self, address: str = ADDRESS, port: int = PORT) -> None:
        """Register a target that is healthy."""
        self.elb.register(self.group, address, port)
        self.elb.set_health(self.group, address, port, healthy=True)

    def deploy(self, percent: float) -> ServiceDeployment:
        """A canary of a new task definition has this weight from now on; it begins with the first call."""
        found = self.ecs.deployments.current(SERVICE)
        if found is None:
            old = RevisionRecord(1, SERVICE, definition="gateway:1", group=self.group)
            new = RevisionRecord(2, SERVICE, definition="gateway:2")
            asked = configuration(Strategy.CANARY, 600, 5, 600)
            found = self.ecs.deployments.add(ServiceDeployment(old, new, asked))
        found.stage, found.percent = "PRODUCTION_TRAFFIC_SHIFT", percent
        return found


@asynccontextmanager
async def running(cloud: Cloud) -> AsyncIterator[Cloud]:
    """Have the endpoints listen."""
    await cloud.endpoints.start()
    try:
        yield cloud
    finally:
        await cloud.endpoints.close()
