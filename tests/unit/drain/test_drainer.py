"""The drainer on connections without sockets and a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.connections.connection import Connection
from gateway.drain.health import TargetState
from gateway.drain.leaving import Origin
from gateway.drain.signals import Peers
from gateway.drain.states import Signal, State
from gateway.errors import IllegalTransitionError
from tests.support.draining import Fleet
from tests.support.virtual_time import run


def test_it_serves_once_it_is_listed() -> None:
    fleet = Fleet(0)
    assert fleet.drainer.state is State.SERVING
    assert not fleet.drainer.refusing


def test_draining_spreads_the_closes_over_the_delay() -> None:
    fleet = Fleet(600)
    assert fleet.hear(Signal.WITHDRAWN, good_ago_s=5) is State.DRAIN_PENDING
    assert fleet.drainer.refusing
    # D − M − 1.2 P = 300 − 15 − 6.
    left = fleet.pass_time(279)
    assert sum(left) == 600
    assert max(left) <= 2
    assert fleet.drainer.state is State.DRAINED
    assert fleet.goaways() == 600
    assert fleet.bench.hub.leaving == 0
    receipt = fleet.drainer.last
    assert receipt is not None
    assert (receipt.origin, receipt.outcome, receipt.connections, receipt.sent_away) == (
        "target_health",
        "drained",
        600,
        600,
    )
    assert receipt.highest_per_s <= 4
    assert receipt.closed == {"drain": 600}
    assert receipt.overrun == 0


def test_who_is_still_on_the_way_may_come_in_unless_a_person_said_so() -> None:
    fleet = Fleet(3)
    fleet.hear(Signal.WITHDRAWN)
    assert not fleet.bench.hub.admission.draining
    ordered = Fleet(3)
    ordered.drainer.order(Origin.API)
    assert ordered.bench.hub.admission.draining
    ordered.drainer.cancel()
    assert not ordered.bench.hub.admission.draining


def test_a_connection_that_cannot_be_told_keeps_nobody_from_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(20)
    broken = {id(connection) for connection, _ in fleet.pairs[:5]}
    leave = Connection.leave

    def fail(self: Connection, *given: Any, **named: Any) -> None:
        if id(self) in broken:
            raise ValueError("it cannot")
        leave(self, *given, **named)

    monkeypatch.setattr(Connection, "leave", fail)
    fleet.hear(Signal.WITHDRAWN)
    fleet.pass_time(279)
    assert fleet.drainer.state is State.DRAINED
    assert fleet.goaways() == 15
    ended = [reason for reason, _, _ in fleet.bench.hub.disconnects.elements()]
    assert (ended.count("internal_error"), ended.count("drain")) == (5, 15)


async def test_a_drain_that_fails_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Fleet(5)
    turns = asyncio.Semaphore(0)

    def fail() -> None:
        turns.release()
        raise ZeroDivisionError

    monkeypatch.setattr(fleet.drainer, "turn", fail)
    running = asyncio.create_task(fleet.drainer.run())
    async with asyncio.timeout(10):
        for _ in range(3):
            await turns.acquire()
            fleet.drainer._changed.set()
    assert not running.done()
    running.cancel()
    assert [record.getMessage() for record in caplog.records].count("drain_failed") == 1


def test_the_window_counts_from_the_last_good_poll() -> None:
    fleet = Fleet(10)
    fleet.hear(Signal.WITHDRAWN, good_ago_s=100)
    leaving = fleet.drainer.leaving
    assert leaving is not None
    assert leaving.pacer.deadline_s - fleet.drainer.now_s() == 300 - 15 - 100


def test_lost_without_draining_is_an_emergency() -> None:
    fleet = Fleet(100)
    fleet.hear(Signal.LOST)
    assert fleet.drainer.state is State.DRAINING
    assert sum(fleet.pass_time(5.25)) == 100


def test_returned_cancels_what_target_health_began() -> None:
    fleet = Fleet(100)
    fleet.hear(Signal.WITHDRAWN)
    fleet.pass_time(100)
    assert fleet.hear(Signal.REGISTERED) is State.DRAINING
    fleet.hear(Signal.RETURNED)
    assert fleet.drainer.state is State.SERVING
    remaining = fleet.drainer.remaining
    assert 50 < remaining < 80
    assert sum(fleet.pass_time(300)) == 0
    assert fleet.drainer.cancelled == 1
    assert fleet.drainer.last is not None
    assert fleet.drainer.last.outcome == "cancelled"


@pytest.mark.parametrize("origin", [Origin.API, Origin.SIGUSR1])
def test_what_a_person_began_a_healthy_target_does_not_cancel(origin: Origin) -> None:
    fleet = Fleet(100)
    fleet.drainer.order(origin)
    fleet.hear(Signal.RETURNED)
    fleet.hear(Signal.RETURNED)
    assert fleet.drainer.refusing
    assert fleet.bench.hub.admission.draining
    fleet.pass_time(10)
    fleet.drainer.cancel()
    assert fleet.drainer.state is State.SERVING
    assert not fleet.bench.hub.admission.draining


def test_a_person_cancels_for_good_what_target_health_began() -> None:
    fleet = Fleet(100)
    fleet.hear(Signal.WITHDRAWN)
    fleet.drainer.cancel()
    assert fleet.hear(Signal.WITHDRAWN, good_ago_s=10) is State.SERVING
    fleet.hear(Signal.REGISTERED)
    fleet.hear(Signal.WITHDRAWN)
    assert fleet.drainer.state is State.DRAIN_PENDING


def test_a_balancer_that_joins_a_persons_drain_shortens_it() -> None:
    fleet = Fleet(10)
    fleet.drainer.order(Origin.API, 3600)
    fleet.hear(Signal.WITHDRAWN)
    assert fleet.drainer.leaving is not None
    assert fleet.drainer.leaving.pacer.deadline_s - fleet.drainer.now_s() == 279
    assert fleet.drainer.leaving.origin is Origin.API


def test_a_delay_that_is_learnt_late_shortens_the_drain() -> None:
    fleet = Fleet(10)
    good_s = fleet.drainer.now_s()
    fleet.hear(Signal.WITHDRAWN)
    fleet.pass_time(10)
    fleet.knows(delay_s=60)
    fleet.drainer.hear(Signal.WITHDRAWN, fleet.drainer.now_s(), good_s)
    assert fleet.drainer.leaving is not None
    assert fleet.drainer.leaving.pacer.deadline_s == good_s + 60 - 15
    fleet.knows(delay_s=600)
    fleet.drainer.hear(Signal.WITHDRAWN, fleet.drainer.now_s(), good_s)
    assert fleet.drainer.leaving.pacer.deadline_s == good_s + 60 - 15


def test_a_persons_window_need_not_fit_into_the_balancers_delay() -> None:
    fleet = Fleet(10, "drain.window_s=3600", grouped=False)
    fleet.drainer.order(Origin.SIGUSR1)
    assert fleet.drainer.leaving is not None
    assert fleet.drainer.leaving.window_s == 3600


def test_a_deadline_that_moves_moves_the_start_as_well() -> None:
    fleet = Fleet(50)
    fleet.knows(peers=Peers())
    fleet.drainer.order(Origin.API, 3600)
    fleet.hear(Signal.WITHDRAWN)
    fleet.pass_time(30)
    assert fleet.drainer.state is State.DRAINING
    assert sum(fleet.pass_time(250)) > 40


def test_overruns_are_counted_once_though_nobody_can_be_closed() -> None:
    fleet = Fleet(5)
    fleet.knows(peers=Peers())
    for connection, _ in fleet.pairs:
        connection.expect(1)
    fleet.hear(Signal.LOST)
    fleet.pass_time(20)
    assert fleet.drainer.overrun == 5
    assert fleet.drainer.last is not None
    assert fleet.drainer.last.overrun == 5


def test_a_drained_process_that_is_called_back_keeps_its_receipt() -> None:
    fleet = Fleet(5)
    fleet.drainer.order(Origin.API, 5)
    fleet.pass_time(6)
    fleet.drainer.cancel()
    assert fleet.drainer.last is not None
    assert fleet.drainer.last.outcome == "drained"


def test_orders_in_the_wrong_state_change_nothing() -> None:
    fleet = Fleet(1)
    with pytest.raises(IllegalTransitionError):
        fleet.drainer.cancel()
    fleet.drainer.order(Origin.API)
    leaving = fleet.drainer.leaving
    with pytest.raises(IllegalTransitionError):
        fleet.drainer.order(Origin.SIGUSR1)
    assert fleet.drainer.leaving is leaving


def test_no_receivers_hold_the_start_up_for_a_tenth_of_the_window() -> None:
    fleet = Fleet(100)
    fleet.knows(peers=Peers())
    fleet.hear(Signal.WITHDRAWN)
    assert sum(fleet.pass_time(27)) == 0
    assert fleet.drainer.state is State.DRAIN_PENDING
    assert sum(fleet.pass_time(252.5)) == 100
    assert fleet.drainer.last is not None
    # Nobody takes them: all are above the bound, and said to be.
    assert fleet.drainer.last.overrun == 100
    assert fleet.drainer.overrun == 100


def test_receivers_that_come_let_it_begin() -> None:
    fleet = Fleet(100)
    fleet.knows(peers=Peers())
    fleet.hear(Signal.WITHDRAWN)
    fleet.pass_time(10)
    fleet.knows(peers=Peers(1, 0, 1))
    fleet.pass_time(0.25)
    assert fleet.drainer.state is State.DRAINING


def test_who_comes_late_is_sent_away_too() -> None:
    fleet = Fleet(10)
    fleet.hear(Signal.WITHDRAWN)
    fleet.pass_time(279)
    assert fleet.drainer.state is State.DRAINED
    fleet.pairs.append(fleet.join("late"))
    fleet.pass_time(0.5)
    assert fleet.drainer.state is State.DRAINED
    assert fleet.drainer.remaining == 0


def test_who_has_something_under_way_leaves_last() -> None:
    fleet = Fleet(20)
    busy = [connection for connection, _ in fleet.pairs[:5]]
    for connection in busy:
        connection.expect(1)
    fleet.hear(Signal.WITHDRAWN)
    while fleet.drainer.remaining > 5:
        fleet.pass_time(0.25)
    assert all(connection.stays for connection in busy)
    fleet.pass_time(300)
    assert not any(connection.stays for connection in busy)


def test_at_the_deadline_they_get_five_seconds_more() -> None:
    fleet = Fleet(1)
    connection = fleet.pairs[0][0]
    connection.expect(1)
    fleet.hear(Signal.LOST)
    leaving = fleet.drainer.leaving
    assert leaving is not None
    leaving.pacer.deadline_s = fleet.drainer.now_s()
    fleet.pass_time(4.75)
    assert connection.stays
    fleet.pass_time(0.5)
    assert not connection.stays


def test_a_rehearsal_is_faster_and_everything_with_it() -> None:
    fleet = Fleet(600, "drain.speed=10", "connections.close_timeout_s=0.5")
    fleet.hear(Signal.WITHDRAWN, good_ago_s=5)
    left = fleet.pass_time(27.9, step_s=0.025)
    assert sum(left) == 600
    assert max(left) <= 2
    assert fleet.drainer.last is not None
    assert fleet.drainer.last.highest_per_s <= 4
    assert max(fleet.told_to_wait_ms()) < 100


@pytest.mark.parametrize("by_sigterm", [False, True])
def test_the_fastest_rehearsal_ticks_once_a_millisecond(by_sigterm: bool) -> None:
    fleet = Fleet(100, "drain.speed=1000", "drain.stop_timeout_s=310")
    drainer = fleet.drainer
    looked_s: list[float] = []

    def now_s() -> float:
        looked_s.append(asyncio.get_running_loop().time())
        return looked_s[-1] * 1000

    async def registered() -> bool:
        return True

    async def drain() -> None:
        drainer.now_s = now_s  # type: ignore[method-assign]
        if not by_sigterm:
            drainer.order(Origin.API, 300)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.25):
                await (drainer.terminate(registered) if by_sigterm else drainer.run())

    run(drain())
    assert 0 < drainer.remaining < 50
    pauses_s = [after - before for before, after in pairwise(sorted(set(looked_s)))]
    assert len(pauses_s) > 200
    assert min(pauses_s) == pytest.approx(1e-3)


def test_a_cancelled_wish_does_not_make_it_deaf() -> None:
    fleet = Fleet(20)
    fleet.drainer.order(Origin.API)
    fleet.drainer.cancel()
    fleet.hear(Signal.WITHDRAWN)
    fleet.pass_time(300)
    assert fleet.drainer.state is State.DRAINED


def test_receivers_that_come_late_are_used_as_soon_as_they_are_there() -> None:
    fleet = Fleet(100)
    fleet.knows(peers=Peers(0, 0, 1, {TargetState.INITIAL: 1}))
    fleet.hear(Signal.WITHDRAWN)
    fleet.pass_time(5)
    assert fleet.drainer.remaining == 100
    fleet.knows(peers=Peers(4, 0, 4, {TargetState.HEALTHY: 4}))
    fleet.pass_time(300)
    assert fleet.goaways() == 100
    assert set(fleet.told_to_wait_ms()) == {0}, "one a tick: the closes are even already"


def test_the_balancers_end_shortens_the_receipts_window() -> None:
    fleet = Fleet(100)
    fleet.drainer.order(Origin.API, 3600)
    fleet.hear(Signal.WITHDRAWN)
    fleet.pass_time(300)
    receipt = fleet.drainer.last
    assert receipt is not None
    assert (receipt.window_s, receipt.outcome) == (279, "drained")
    assert receipt.even_rate_per_s == pytest.approx(100 / 279, abs=0.001)


def test_no_balancer_shortens_nothing() -> None:
    fleet = Fleet(10, "drain.window_s=3600", grouped=False)
    assert fleet.drainer.window_s() == 3600
    fleet.drainer.order(Origin.SIGUSR1)
    assert fleet.drainer.leaving is not None
    assert fleet.drainer.leaving.window_s == fleet.drainer.planner(fleet.drainer.window_s(), 1)().window_s == 3600


@pytest.mark.parametrize(("healthy", "tasks", "receivers"), [(4, 1, 4), (15, 8, 8), (7, 8, 8), (0, 1, 1)])
def test_who_leaves_is_no_receiver_in_a_plan(healthy: int, tasks: int, receivers: int) -> None:
    fleet = Fleet(10)
    fleet.drainer.learn(
        replace(fleet.drainer.standing, peers=Peers(healthy, 0, healthy, {TargetState.HEALTHY: healthy}))
    )
    assert fleet.drainer.planner(60, tasks)().bound_per_s == receivers * 200


wishes = st.lists(
    st.one_of(
        st.sampled_from([None, Signal.REGISTERED, Signal.RETURNED, Signal.WITHDRAWN, Signal.LOST]),
        st.sampled_from(["order", "cancel", "join"]),
        st.floats(0.25, 60),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(wishes)
def test_whatever_is_asked_counts_stay_right(
    asked: list[Signal | Literal["order", "cancel", "join"] | float | None],
) -> None:
    fleet = Fleet(20)
    for number, wish in enumerate(asked):
        before = fleet.drainer.state
        try:
            if wish == "order":
                fleet.drainer.order(Origin.API, 30)
            elif wish == "cancel":
                fleet.drainer.cancel()
            elif wish == "join":
                fleet.pairs.append(fleet.join(f"late-{number}"))
            elif isinstance(wish, float):
                fleet.pass_time(wish)
            else:
                fleet.hear(wish)
        except IllegalTransitionError:
            assert fleet.drainer.state is before
        hub = fleet.bench.hub
        assert 0 <= hub.leaving <= hub.registry.total
        assert (fleet.drainer.leaving is not None) == fleet.drainer.refusing
    if fleet.drainer.refusing:
        fleet.pass_time(300)
        assert fleet.bench.hub.registry.total == 0
