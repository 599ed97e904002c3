"""A stand-in cloud that answers while a test waits for a real program: on a thread, its time many times faster."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from loadtest.cloud.deployments import ROLLBACK_IN_PROGRESS
from tests.support.cloud import ADDRESS, PORT, TASK, Cloud, point_at

T = TypeVar("T")
WITHIN_S = 20.0
POLL = "elbv2:DescribeTargetHealth"


class LiveCloud:
    """One service with one task and one target group; `with` starts and ends it. Times are simulated seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, speed: float, delay_s: float = 300.0) -> None:
        self._cloud = Cloud(now_s=lambda: time.monotonic() * speed, delay_s=delay_s)
        self.elb, self.group, self.endpoints = self._cloud.elb, self._cloud.group, self._cloud.endpoints
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
        """Register a target that is healthy."""
        self._do(lambda: self._cloud.serve(address))

    def deploy(self, percent: float) -> None:
        """A canary has this weight from now on; it begins with the first call."""
        self._do(lambda: self._cloud.deploy(percent))

    def roll_back(self) -> None:
        """The canary goes back."""
        self._do(lambda: setattr(self._cloud.deploy(0), "status", ROLLBACK_IN_PROGRESS))

    def pause(self) -> list[str]:
        """A canary waits before its first step; returns the actions that it is continued with."""
        told: list[str] = []

        def wait() -> None:
            made = self._cloud.deploy(0)
            made.stage, made.told = "PRE_PRODUCTION_TRAFFIC_SHIFT", told.append
            made.wait()

        self._do(wait)
        return told

    def deregister(self) -> None:
        """The task's target drains from now on."""
        self._do(lambda: self.elb.deregister(self.group, ADDRESS, PORT))

    def _do(self, call: Callable[[], T]) -> T:
        async def run() -> T:
            return call()

        return self._await(run())

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WITHIN_S)
