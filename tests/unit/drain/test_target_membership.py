"""Where the process stands: its target groups, their delays, and how long it has to stop."""

from __future__ import annotations

import pytest

from gateway.drain.health import GroupAttributes, Membership, TargetState
from gateway.drain.states import State
from gateway.errors import CallError, CallErrorKind
from tests.support.fake_target_health import GROUP, PORT, TARGET
from tests.support.watched import GREEN, World


async def test_a_target_that_nobody_ever_lists_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    world = World()
    assert await world.sees(*[None] * 59) is State.REGISTERING
    assert not caplog.records
    await world.sees(*[None] * 60)
    assert [record.getMessage() for record in caplog.records] == ["target_never_listed"]


async def test_blue_and_green_and_a_group_that_is_deleted() -> None:
    world = World()
    world.health.groups[GREEN] = {}
    world.health.member = Membership(TARGET, {GROUP: PORT, GREEN: PORT})
    world.health.attributes_of = {GROUP: GroupAttributes(600), GREEN: GroupAttributes(120)}
    assert await world.sees(TargetState.HEALTHY) is State.SERVING
    assert world.drainer.standing.delay_s == 120
    world.health.set(TargetState.HEALTHY, GREEN)
    assert await world.sees(TargetState.DRAINING) is State.SERVING
    del world.health.groups[GREEN]
    world.health.set(TargetState.HEALTHY)
    world.health.member = Membership(TARGET, {GROUP: PORT})
    await world.runs_until(lambda: world.watch.errors[CallErrorKind.NOT_FOUND] == 1 and world.watch.signal_up)
    assert world.drainer.state is State.SERVING
    assert world.drainer.standing.delay_s == 600
    assert await world.sees(TargetState.DRAINING) is State.DRAIN_PENDING


async def test_a_service_with_another_group_leaves_those_that_list_us() -> None:
    world = World()
    await world.sees(TargetState.HEALTHY)
    world.health.groups[GREEN] = {}
    world.health.member = Membership(TARGET, {GREEN: PORT})
    world.bench.clock.advance(3600)
    assert await world.sees(TargetState.HEALTHY, TargetState.HEALTHY) is State.SERVING
    assert await world.sees(TargetState.DRAINING) is State.DRAIN_PENDING


async def test_a_service_without_its_group_does_not_blind_us() -> None:
    world = World()
    await world.sees(TargetState.HEALTHY)
    world.health.member = Membership(TARGET, {})
    world.bench.clock.advance(3600)
    assert await world.sees(TargetState.HEALTHY) is State.SERVING
    assert await world.sees(TargetState.DRAINING) is State.DRAIN_PENDING
    # Once nobody lists us there, the next look forgets it.
    await world.sees(None)
    world.bench.clock.advance(3600)
    await world.watch.poll()
    assert world.watch.alone


async def test_who_was_never_listed_looks_soon_whether_it_looks_in_the_right_place() -> None:
    world = World()
    world.health.groups[GREEN] = {f"{TARGET}:{PORT}": TargetState.HEALTHY}
    assert await world.sees(None) is State.REGISTERING
    world.health.member = Membership(TARGET, {GREEN: PORT})
    world.bench.clock.advance(60)
    await world.watch.poll()
    assert world.drainer.state is State.SERVING


async def test_a_window_that_does_not_fit_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World("drain.window_s=600")
    await world.sees(TargetState.HEALTHY, TargetState.HEALTHY)
    assert [record.getMessage() for record in caplog.records].count("window_shortened") == 1


async def test_health_is_asked_for_though_the_container_service_does_not_answer() -> None:
    world = World()
    await world.sees(TargetState.HEALTHY)
    world.bench.clock.advance(3600)

    async def gone() -> Membership:
        raise CallError(CallErrorKind.NOT_FOUND, "no such service")

    world.health.membership = gone  # type: ignore[method-assign]
    assert await world.sees(TargetState.HEALTHY) is State.SERVING
    assert await world.sees(TargetState.DRAINING) is State.DRAIN_PENDING


async def test_a_service_without_groups_serves() -> None:
    world = World()
    world.health.member = Membership(TARGET, {}, 90)
    await world.watch.poll()
    assert world.drainer.state is State.SERVING
    assert not world.drainer.standing.grouped
    assert world.drainer.stop_timeout_s == 90
    assert await world.watch.registered() is None


async def test_a_service_that_lost_its_groups_has_no_peers_and_no_signal() -> None:
    world = World()
    world.health.set(TargetState.HEALTHY, target="10.0.0.2")
    await world.sees(TargetState.HEALTHY)
    assert world.drainer.standing.peers.healthy == 1
    world.health.member = Membership(TARGET, {})
    for _ in range(3):
        await world.sees(None)
        world.bench.clock.advance(3600)
    assert world.watch.alone
    assert (world.watch.signal_up, world.watch.polled_s, world.drainer.standing.peers.total) == (False, None, 0)


async def test_a_stop_timeout_that_was_read_once_holds() -> None:
    world = World()
    world.health.member = Membership(TARGET, {GROUP: PORT}, 120)
    await world.sees(TargetState.HEALTHY)
    world.health.member = Membership(TARGET, {GROUP: PORT}, unread=CallErrorKind.THROTTLED)
    world.bench.clock.advance(3600)
    await world.sees(TargetState.HEALTHY)
    assert world.drainer.stop_timeout_s == 120


@pytest.mark.parametrize(("kind", "known_s"), [(CallErrorKind.THROTTLED, 120), (CallErrorKind.DENIED, 30)])
async def test_a_stop_timeout_that_could_not_be_read_is_asked_for_soon(kind: CallErrorKind, known_s: float) -> None:
    world = World()
    world.health.member = Membership(TARGET, {GROUP: PORT}, unread=kind)
    await world.sees(TargetState.HEALTHY)
    assert world.drainer.stop_timeout_s == 30
    world.health.member = Membership(TARGET, {GROUP: PORT}, 120)
    await world.sees(*[TargetState.HEALTHY] * 13)
    # A permission that is missing is not asked for more often than the rest.
    assert world.drainer.stop_timeout_s == known_s


async def test_an_unknown_delay_does_not_stop_the_polls() -> None:
    world = World()
    asked: list[int] = []

    async def denied(group: str) -> GroupAttributes:
        asked.append(1)
        raise CallError(CallErrorKind.DENIED, "no")

    world.health.attributes = denied  # type: ignore[method-assign]
    assert await world.sees(TargetState.HEALTHY) is State.SERVING
    assert world.drainer.standing.delay_s == 300
    await world.sees(TargetState.HEALTHY)
    # A person has to give the permission; polling does not.
    assert len(asked) == 1


@pytest.mark.parametrize("kind", [kind for kind in CallErrorKind if kind is not CallErrorKind.DENIED])
async def test_a_delay_that_was_not_told_is_asked_for_again(kind: CallErrorKind) -> None:
    world = World()

    async def fail(group: str) -> GroupAttributes:
        raise CallError(kind, "no")

    known, world.health.attributes = world.health.attributes, fail  # type: ignore[method-assign]
    world.health.attributes_of = {GROUP: GroupAttributes(60)}
    assert await world.sees(TargetState.HEALTHY) is State.SERVING
    assert world.drainer.standing.delay_s == 300
    world.health.attributes = known  # type: ignore[method-assign]
    await world.sees(TargetState.HEALTHY)
    assert world.drainer.standing.delay_s == 60
