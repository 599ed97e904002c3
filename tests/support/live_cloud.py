"""A stand-in cloud that answers while a test waits for a real program: on a thread, its time many times faster."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from loadtest.cloud.ecs_records import Ecs, EcsTask, ServiceLoadBalancer
from loadtest.cloud.elbv2 import Elbv2
from loadtest.cloud.endpoints import Endpoints
from tests.support.cloud import ADDRESS, PORT, SERVICE, TASK, point_at

T = TypeVar("T")
WITHIN_S = 20.0
POLL = "elbv2:DescribeTargetHealth"


class LiveCloud:
    """One service with one task and one target group; `with` starts and ends it. Times are simulated seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, speed: float, delay_s: float = 300.0) -> None:
        self.elb = Elbv2(lambda: time.monotonic() * speed)
        self.group = self.elb.add_group("web", delay_s)
        ecs = Ecs(services={SERVICE: [ServiceLoadBalancer(self.group)]})
        ecs.add_task(EcsTask(TASK, SERVICE, ADDRESS))
        self.endpoints = Endpoints(self.elb, ecs)
        self._monkeypatch = monkeypatch
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cloud")

    def __enter__(self) -> LiveCloud:
        self._thread.start()
        self.reach()
        point_at(self._monkeypatch, self.endpoints.environment(TASK, credentials="container"))
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WITHIN_S)
        self._loop.close()

    @property
    def polls(self) -> int:
        """How often target health was asked for, with whatever answer."""
        return self.endpoints.requests[POLL]

    def reach(self) -> None:
        """The endpoints answer."""
        self._await(self.endpoints.start())

    def vanish(self) -> None:
        """Nobody listens any more."""
        self._await(self.endpoints.close())

    def fail(self, **how: str) -> None:
        """How services fail from now on; none: they do not."""
        self._do(lambda: setattr(self.endpoints, "fail_with", how))

    def serve(self, address: str = ADDRESS) -> None:
        """Register and find healthy."""

        def serve() -> None:
            self.elb.register(self.group, address, PORT)
            self.elb.set_health(self.group, address, PORT, healthy=True)

        self._do(serve)

    def deregister(self) -> None:
        """The task's target drains from now on."""
        self._do(lambda: self.elb.deregister(self.group, ADDRESS, PORT))

    def _do(self, call: Callable[[], T]) -> T:
        async def run() -> T:
            return call()

        return self._await(run())

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WITHIN_S)
