"""Looking at memory: what cannot be seen keeps its last value, and ends nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.connections.housekeeping import Housekeeping
from tests.support.bench import Bench


class Machine:
    """Tells the share of memory in use, or fails."""

    def __init__(self) -> None:
        self.answer: Callable[[], float] = lambda: 0.5

    def share(self) -> float:
        return self.answer()


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), KeyError("MemTotal"), RuntimeError("thread")])
async def test_a_failure_keeps_the_last_value_and_is_said_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    machine, bench = Machine(), Bench()
    housekeeping = Housekeeping(bench.hub, machine.share)
    await housekeeping.look()

    def fail() -> float:
        raise error

    caplog.set_level("INFO", logger="heiwa")
    machine.answer = fail
    for _ in range(3):
        await housekeeping.look()
    assert housekeeping.memory_share == 0.5
    assert [record.getMessage() for record in caplog.records] == ["memory_unknown"]
    machine.answer = lambda: 0.25
    await housekeeping.look()
    assert housekeeping.memory_share == 0.25
    assert [record.getMessage() for record in caplog.records] == ["memory_unknown", "memory_known_again"]


async def test_low_memory_stays_low_while_nothing_is_seen() -> None:
    machine, bench = Machine(), Bench()
    housekeeping = Housekeeping(bench.hub, machine.share)
    machine.answer = lambda: 0.99
    await housekeeping.look()
    assert bench.hub.admission.memory_low

    def fail() -> float:
        raise OSError

    machine.answer = fail
    await housekeeping.look()
    assert bench.hub.admission.memory_low
