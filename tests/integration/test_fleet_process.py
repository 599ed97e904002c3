"""A fleet process as the conductor sees it: when it is told to stop, and after."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from loadtest.fleets import FleetProcess
from loadtest.plan import Part

# It reads to the end of its input, as a fleet does, and ends then.
READER = ("sh", "-c", "cat > /dev/null")
SINCE_THE_FIFTH_ASYNCIO_WARNS = 10


@pytest.fixture
async def fleet(tmp_path: Path) -> FleetProcess:
    made = FleetProcess(Part("fleet-1.1", 0, 1, [], 1), tmp_path / "fleet.log")
    await made.start({}, lambda _: None, lambda *_: None, READER)
    return made


async def test_who_was_told_to_stop_is_told_nothing_more(fleet: FleetProcess, caplog: pytest.LogCaptureFixture) -> None:
    await fleet.tell("send")
    stopping = asyncio.create_task(fleet.stop())
    await asyncio.sleep(0)
    assert fleet.stopping
    for _ in range(SINCE_THE_FIFTH_ASYNCIO_WARNS):
        await fleet.tell("targets", urls=[])
    await stopping
    for _ in range(SINCE_THE_FIFTH_ASYNCIO_WARNS):
        await fleet.tell("targets", urls=[])
    assert not fleet.died
    assert not caplog.records


async def test_who_had_to_be_killed_died(fleet: FleetProcess) -> None:
    await fleet.kill()
    assert fleet.died
    assert fleet.code == -signal.SIGKILL
    await fleet.tell("send")
