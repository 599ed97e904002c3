"""Whatever a server or a proxy answers, a device comes back after a wait: the examples and `heiwa device`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from random import Random

import pytest

from gateway.adapters.clock import SystemClock
from gateway.device.client import Device
from gateway.device.plan import Plan, Token
from gateway.device.track import Leg
from tests.support.example_clients import CLIENTS
from tests.support.odd_server import LONG, LONG_REFUSALS, ODD, ODD_TRIES, SILENT, OddServer

WITHIN_S = 45.0
UNSERVED_S = 3.0
SHORTEST_WAIT_S = 0.05  # 0.1 less what passes between the end for a client and for its server
AT_ONCE = 24
# A browser and its like cannot read the headers of a refusal, a small client no long ones: they back off.
UNREAD = {"javascript": set(LONG_REFUSALS), "c": {"retry-enormous"}}
# A refused token ends `heiwa device` with a token that was given to it.
FINAL = {"heiwa": {"401", "403"}}
Running = Callable[[str], AbstractAsyncContextManager[asyncio.Task[object]]]


def program(*command: str) -> Running:
    """An example as a subprocess; yields a task that is done once it has ended."""

    @contextlib.asynccontextmanager
    async def run(url: str) -> AsyncIterator[asyncio.Task[object]]:
        process = await asyncio.create_subprocess_exec(
            *command, url, env=os.environ | {"HEIWA_TOKEN": "given"}, stdout=subprocess.DEVNULL
        )
        ended = asyncio.create_task(process.wait())
        try:
            yield ended
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await ended

    return run


class Silent:
    def note(self, text: str) -> None:
        pass

    def state(self, text: str) -> None:
        pass


class Hasty(Random):
    """Draws the shortest back-off each time."""

    def uniform(self, a: float, b: float) -> float:
        return a


@contextlib.asynccontextmanager
async def heiwa(url: str) -> AsyncIterator[asyncio.Task[object]]:
    """`heiwa device` in this process."""
    legs = (Leg(100, 35.0, 135.0, None, None) for _ in iter(int, 1))
    device = Device(Plan(url, legs, "run", Token("given")), SystemClock(), Hasty(), Silent())
    running: asyncio.Task[object] = asyncio.create_task(device.run())
    try:
        yield running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def client(name: str) -> Running:
    return heiwa if name == "heiwa" else program(*CLIENTS[name]())


async def outcome(name: str, run: Running, answer: str) -> str:
    """What is wrong with a client after this answer, "" for nothing."""
    server = OddServer(answer)
    long = set(LONG) - UNREAD.get(name, set())
    within_s = UNSERVED_S if answer in long else WITHIN_S
    async with server.open(), run(server.url) as ended:
        served = asyncio.create_task(server.served.wait())
        await asyncio.wait({ended, served}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        served.cancel()
        tries, wait_s = len(server.tries_s), server.shortest_wait_s
        if answer in FINAL.get(name, ()):
            return "" if ended.done() and tries == 1 else f"{answer}: came back"
        if ended.done():
            return f"{answer}: ended after {tries} tries"
        if wait_s < SHORTEST_WAIT_S:
            return f"{answer}: came back after {wait_s:.3f} s"
        if answer in long:
            return "" if tries <= ODD_TRIES else f"{answer}: {tries} tries"
        return "" if server.served.is_set() else f"{answer}: {tries} tries and no event"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["heiwa", *CLIENTS])
async def test_no_answer_ends_a_device_or_has_it_hurry(name: str) -> None:
    run = client(name)
    free = asyncio.Semaphore(AT_ONCE)

    async def bounded(answer: str) -> str:
        async with free:
            return await outcome(name, run, answer)

    # First those that a client takes long to see through.
    found = await asyncio.gather(*(bounded(answer) for answer in sorted(ODD, key=lambda answer: answer not in SILENT)))
    assert [wrong for wrong in found if wrong] == []
