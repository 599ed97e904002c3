"""Polling target health: what is asked, what the drainer hears, what errors do (nothing)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.drain.health import GroupHealth, Membership, TargetState
from gateway.drain.leaving import Origin
from gateway.drain.pacer import NO_BOUND_PER_S
from gateway.drain.states import State
from gateway.errors import CallError, CallErrorKind
from tests.support.bench import device
from tests.support.fake_target_health import GROUP, PORT
from tests.support.watched import World


async def test_from_registration_to_a_drain() -> None:
    world = World()
    assert await world.sees(None) is State.REGISTERING
    assert await world.sees(TargetState.INITIAL) is State.SERVING
    assert await world.sees(TargetState.HEALTHY, TargetState.UNHEALTHY) is State.SERVING
    assert await world.sees(TargetState.DRAINING) is State.DRAIN_PENDING
    assert world.watch.signal_up
    assert world.drainer.leaving is not None
    # The poll before found it unhealthy, which is registered: W fits whole into 300 − 15 − 5.
    assert world.drainer.leaving.pacer.deadline_s - world.drainer.now_s() == 279


async def test_a_task_with_two_stacks_is_never_its_own_peer() -> None:
    world = World()
    world.health.member = Membership("10.0.0.1", {GROUP: PORT}, also=("2001:DB8::7",))
    for state in (TargetState.HEALTHY, TargetState.DRAINING):
        world.health.groups[GROUP] = {
            "[2001:db8::7]:8080": state,
            "[2001:db8::8]:8080": TargetState.HEALTHY,
            "10.0.0.2:8080": TargetState.HEALTHY,
        }
        await world.watch.poll()
        assert world.drainer.standing.peers.total == 2
    assert world.drainer.state is State.DRAIN_PENDING


async def test_which_groups_have_targets_that_take_connections_is_known() -> None:
    world = World()
    assert world.drainer.standing.receives({GROUP})
    for state, receives in ((TargetState.HEALTHY, True), (TargetState.INITIAL, False), (TargetState.UNHEALTHY, False)):
        await world.sees(state)
        world.health.groups[GROUP] = {f"10.0.0.1:{PORT}": state, f"10.0.0.2:{PORT}": state}
        await world.watch.poll()
        assert world.drainer.standing.receives({GROUP}) is receives
    assert world.drainer.standing.receives({"another"})
    assert world.drainer.standing.receives(())


async def test_who_was_unhealthy_for_long_has_all_of_the_delay() -> None:
    world = World()
    await world.sees(TargetState.HEALTHY, *[TargetState.UNHEALTHY] * 60)
    assert await world.sees(TargetState.DRAINING) is State.DRAIN_PENDING
    assert world.drainer.leaving is not None
    assert world.drainer.leaving.pacer.deadline_s - world.drainer.now_s() == 279


async def test_a_newborn_on_a_used_address_stays() -> None:
    world = World()
    assert await world.sees(TargetState.DRAINING, TargetState.DRAINING) is State.REGISTERING
    assert await world.sees(TargetState.INITIAL, TargetState.DRAINING) is State.DRAIN_PENDING


async def test_reversal_needs_two_good_polls() -> None:
    world = World()
    await world.sees(TargetState.HEALTHY, TargetState.DRAINING)
    assert await world.sees(TargetState.HEALTHY) is State.DRAIN_PENDING
    assert await world.sees(TargetState.HEALTHY) is State.SERVING


async def test_gone_at_once_is_an_emergency() -> None:
    world = World()
    await world.sees(TargetState.HEALTHY)
    assert await world.sees(None) is State.DRAINING


async def test_a_new_kind_of_error_is_logged_and_so_is_the_end_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world = World()
    kinds = [CallErrorKind.THROTTLED, CallErrorKind.THROTTLED, CallErrorKind.DENIED, CallErrorKind.DENIED]
    world.health.script = [CallError(kind, "no") for kind in kinds]
    await world.runs_until(lambda: world.watch.polled_s is not None)
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if text.startswith("poll_")] == ["poll_failed", "poll_failed", "poll_succeeded_again"]


async def test_before_the_first_answer_nobody_knows_of_receivers() -> None:
    world = World("drain.window_s=60")
    world.bench.open(device("d"))
    await world.sees(TargetState.HEALTHY)
    blind = World("drain.window_s=60")
    blind.bench.open(device("d"))
    blind.health.script = [CallError(CallErrorKind.DENIED, "no")]
    with pytest.raises(CallError):
        await blind.watch.poll()
    assert world.drainer.bound_per_s() == 0
    assert blind.drainer.bound_per_s() == NO_BOUND_PER_S
    blind.drainer.order(Origin.API)
    blind.drainer.turn()
    assert blind.drainer.state is State.DRAINING


@pytest.mark.parametrize("kind", CallErrorKind)
async def test_no_error_drains(kind: CallErrorKind) -> None:
    world = World()
    await world.sees(TargetState.HEALTHY)
    world.health.fail(kind)
    for _ in range(3):
        with pytest.raises(CallError):
            await world.watch.poll()
    assert world.drainer.state is State.SERVING
    world.health.fail(None)
    assert await world.sees(TargetState.DRAINING) is State.DRAIN_PENDING


@pytest.mark.parametrize("kind", CallErrorKind)
async def test_only_who_is_throttled_still_has_the_signal(kind: CallErrorKind) -> None:
    world = World()
    await world.sees(TargetState.HEALTHY)
    assert world.watch.signal_up
    world.health.script = [CallError(kind, "no")] * 2
    await world.runs_until(lambda: world.watch.errors[kind] == 2)
    assert world.watch.signal_up is (kind is CallErrorKind.THROTTLED)


async def test_errors_are_counted_and_polling_goes_on() -> None:
    world = World()
    kinds = [CallErrorKind.DENIED, CallErrorKind.THROTTLED, CallErrorKind.NOT_FOUND, CallErrorKind.UNREACHABLE]
    world.health.script = [CallError(kind, "no") for kind in kinds]
    enough = asyncio.Event()
    world.health.asked = lambda: enough.set() if not world.health.script else None
    running = asyncio.create_task(world.watch.run())
    async with asyncio.timeout(10):
        await enough.wait()
        while world.watch.polled_s is None:  # noqa: ASYNC110 - the next turn of the loop, not a time
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert world.watch.errors == dict.fromkeys(kinds, 1)
    assert world.watch.signal_up
    assert world.drainer.state is State.SERVING


async def test_what_nobody_foresaw_ends_nothing() -> None:
    world = World()
    await world.sees(TargetState.HEALTHY)
    failed = asyncio.Event()

    async def strange(group: str, target: str, port: int, also: Sequence[str] = ()) -> GroupHealth:
        failed.set()
        raise KeyError("TargetHealthDescriptions")

    world.health.health = strange  # type: ignore[method-assign]
    running = asyncio.create_task(world.watch.run())
    async with asyncio.timeout(10):
        await failed.wait()
        while not world.watch.errors:  # noqa: ASYNC110 - the next turn of the loop, not a time
            await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    assert world.watch.errors == {CallErrorKind.OTHER: 1}
    assert world.drainer.state is State.SERVING
    assert await world.watch.registered() is False


async def test_the_signal_is_down_while_nobody_may_ask() -> None:
    world = World()
    await world.sees(TargetState.HEALTHY)
    world.health.fail(CallErrorKind.EXPIRED)
    failed = asyncio.Event()
    world.health.asked = failed.set
    running = asyncio.create_task(world.watch.run())
    async with asyncio.timeout(10):
        await failed.wait()
        while world.watch.signal_up:  # noqa: ASYNC110 - the next turn of the loop, not a time
            await asyncio.sleep(0)
    running.cancel()
    assert world.drainer.state is State.SERVING


@pytest.mark.parametrize(
    ("state", "registered"),
    [
        (TargetState.HEALTHY, True),
        (TargetState.INITIAL, True),
        (TargetState.UNHEALTHY, True),
        (TargetState.DRAINING, False),
        (None, False),
    ],
)
async def test_the_quick_poll_at_sigterm(state: TargetState | None, registered: bool) -> None:
    world = World()
    await world.sees(TargetState.HEALTHY)
    world.health.set(state)
    assert await world.watch.registered() is registered


async def test_at_sigterm_nobody_knows() -> None:
    world = World()
    world.health.fail(CallErrorKind.UNREACHABLE)
    assert await world.watch.registered() is False


async def test_peers_set_the_pace_and_handshakes_are_counted_while_they_drain() -> None:
    world = World()
    for number in range(2, 41):
        world.health.set(TargetState.HEALTHY, target=f"10.0.0.{number}")
    await world.sees(TargetState.HEALTHY)
    standing = world.drainer.standing
    assert (standing.peers.healthy, standing.peers.draining) == (39, 0)
    assert standing.period_s == 20
    world.bench.hub.opened += 7
    await world.watch.poll()
    assert world.watch.received == 0
    world.health.set(TargetState.DRAINING, target="10.0.0.2")
    world.bench.hub.opened += 5
    await world.watch.poll()
    assert world.watch.received == 5
    assert world.drainer.bound_per_s() == 38 * 200 / 2


async def test_what_came_in_while_nobody_saw_the_peers_is_no_handshake_of_a_deploy() -> None:
    world = World()
    world.health.set(TargetState.HEALTHY, target="10.0.0.2")
    await world.sees(TargetState.HEALTHY)
    world.health.fail(CallErrorKind.DENIED)
    world.bench.hub.opened += 10_000
    await world.runs_until(lambda: world.watch.errors[CallErrorKind.DENIED] > 0)
    world.health.fail(None)
    world.health.set(TargetState.DRAINING, target="10.0.0.2")
    world.bench.hub.opened += 5
    await world.watch.poll()
    assert world.watch.received == 5
    # Once it is known that they drain, a throttled poll loses nobody.
    world.health.fail(CallErrorKind.THROTTLED)
    world.bench.hub.opened += 3
    await world.runs_until(lambda: world.watch.errors[CallErrorKind.THROTTLED] > 0)
    world.health.fail(None)
    await world.watch.poll()
    assert world.watch.received == 8


async def test_the_last_good_poll_is_when_health_was_asked_for() -> None:
    world = World()
    membership = world.health.membership

    async def slow() -> Membership:
        world.bench.clock.advance(30)
        return await membership()

    world.health.membership = slow  # type: ignore[method-assign]
    await world.sees(TargetState.HEALTHY, TargetState.DRAINING)
    assert world.drainer.leaving is not None
    # One poll ago, five seconds, and not thirty more: 300 − 15 − 5, and W is 279.
    assert world.drainer.leaving.pacer.deadline_s - world.drainer.now_s() == 279
