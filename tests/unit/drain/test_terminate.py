"""SIGTERM: everybody goes in the time there is, and a receipt says how."""

from __future__ import annotations

import asyncio

import pytest

from gateway.drain.leaving import Origin
from gateway.drain.states import Signal, State
from gateway.errors import IllegalTransitionError
from tests.support.draining import Fleet


async def test_sigterm_closes_all_within_its_window() -> None:
    fleet = Fleet(30, "drain.speed=50", "connections.close_timeout_s=0.1", grouped=False)
    clock, drainer = fleet.bench.clock, fleet.drainer

    def advance() -> float:
        clock.advance(0.005)
        return clock.monotonic_s() * 50

    async def answer_closes() -> None:
        while fleet.bench.hub.registry.total:
            fleet.lose_closing()
            await asyncio.sleep(0)

    drainer.now_s = advance  # type: ignore[method-assign]
    answering = asyncio.create_task(answer_closes())
    sent, cut = await drainer.terminate()
    await answering
    assert (sent, cut) == (30, 0)
    assert drainer.state is State.EXITED
    [receipt] = fleet.bench.receipts
    assert (receipt.origin, receipt.window_s) == ("sigterm", 1)
    # Spread over its second, not at once and not longer.
    assert 0.75 <= receipt.took_s <= 2
    with pytest.raises(IllegalTransitionError):
        await drainer.terminate()


async def test_what_the_quick_poll_took_is_part_of_the_time_at_sigterm() -> None:
    fleet = Fleet(400, "drain.speed=50", "connections.close_timeout_s=0.02")
    clock, drainer = fleet.bench.clock, fleet.drainer

    def advance() -> float:
        clock.advance(0.005)
        return clock.monotonic_s() * 50

    async def registered() -> bool:
        # A second of the drain's clock.
        clock.advance(1 / 50)
        return True

    drainer.now_s = advance  # type: ignore[method-assign]
    await drainer.terminate(registered)
    [receipt] = fleet.bench.receipts
    # The default: 30 s less the ten of the stores, less the second that has passed.
    assert receipt.window_s == 20
    assert 15 <= receipt.took_s <= 19 + 2
    assert receipt.highest_per_s <= 1.5 * 400 / 19


async def not_registered() -> bool:
    return False


async def test_nothing_takes_sigterm_back_while_the_balancer_is_asked() -> None:
    fleet = Fleet(4, "drain.speed=100", "connections.close_timeout_s=0.05")
    drainer, admission = fleet.drainer, fleet.bench.hub.admission
    drainer.order(Origin.API)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow() -> bool:
        asked.set()
        await answer.wait()
        return False

    ending = asyncio.create_task(drainer.terminate(slow))
    await asked.wait()
    for signal in (Signal.WITHDRAWN, Signal.REGISTERED, Signal.RETURNED, Signal.LOST):
        fleet.hear(signal)
    with pytest.raises(IllegalTransitionError):
        drainer.cancel()
    with pytest.raises(IllegalTransitionError):
        drainer.order(Origin.SIGUSR1)
    assert (drainer.state, drainer.refusing, admission.draining) == (State.TERMINATING, True, True)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)


async def test_everybody_is_told_though_the_time_was_over_before_it_began() -> None:
    # Ten seconds are the stores'; of the one second left the poll took all.
    fleet = Fleet(20, "drain.speed=50", "drain.stop_timeout_s=10", "connections.close_timeout_s=0.02")

    async def late() -> bool:
        fleet.bench.clock.advance(30)
        return False

    sent, _ = await fleet.drainer.terminate(late)
    assert sent == 20
    assert fleet.bench.receipts[-1].sent_away == 20


async def test_sigterm_in_a_drain_keeps_both_receipts() -> None:
    fleet = Fleet(10, "drain.speed=100", "connections.close_timeout_s=0.05")
    fleet.hear(Signal.WITHDRAWN)
    clock = fleet.bench.clock

    def advance() -> float:
        clock.advance(0.005)
        return clock.monotonic_s() * 100

    fleet.drainer.now_s = advance  # type: ignore[method-assign]
    sent, cut = await fleet.drainer.terminate(not_registered)
    # Nobody answers the close here: all are cut in the end, and said to be.
    assert (sent, cut) == (10, 10)
    assert [(receipt.origin, receipt.outcome) for receipt in fleet.bench.receipts] == [
        ("target_health", "terminated"),
        ("sigterm", "leftovers"),
    ]
    assert fleet.drainer.leftover == 10


def test_the_task_definitions_stop_timeout_counts_where_none_was_set() -> None:
    fleet = Fleet(0)
    fleet.knows(stop_timeout_s=120)
    assert fleet.drainer.stop_timeout_s == 120
    own = Fleet(0, "drain.stop_timeout_s=60")
    own.knows(stop_timeout_s=120)
    assert own.drainer.stop_timeout_s == 60
