"""Commands of workflows: which of them are under way."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.channels.commands import Settled
from gateway.workflows.device_runner import DeviceRunner
from gateway.workflows.run import Attempt

ATTEMPT = Attempt("a", 0, 1)
WORK = {"id": "lamp", "command": "switch", "args": {}, "idempotent": True}


class Endless:
    """Commands that no device answers."""

    def __init__(self) -> None:
        self.under_way = 0

    async def send(self, *_: Any, **__: Any) -> Settled:
        self.under_way += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.under_way -= 1
        raise AssertionError


async def test_one_that_was_stopped_and_sent_anew_can_be_stopped() -> None:
    commands = Endless()
    runner = DeviceRunner(commands, lambda *_: None)
    await runner.submit("run", "acme", ATTEMPT, WORK)
    await asyncio.sleep(0)
    await runner.stop("run", ATTEMPT)
    await runner.submit("run", "acme", ATTEMPT, WORK)
    for _ in range(5):
        await asyncio.sleep(0)
    assert commands.under_way == 1
    await runner.stop("run", ATTEMPT)
    await runner.close()
    for _ in range(5):
        await asyncio.sleep(0)
    assert commands.under_way == 0
