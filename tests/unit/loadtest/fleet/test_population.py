"""All devices of a fleet against a server that does anything at any time: nothing is lost, nothing is made twice."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.fleet.histogram import Latencies
from loadtest.fleet.phases import DONE, GIVEN_UP, UP
from tests.support.fleet_world import DEVICES, World, frame

CLIENT_MODELS = {"patient": 0.4, "arduino": 0.2, "browser": 0.2, "naive": 0.2}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0.0, 0.1, 0.7, 3.0])), max_size=80),
    st.integers(),
    st.sampled_from(["periodic", "poisson"]),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([0.0, 5.0]),
)
def test_nothing_is_lost_whatever_happens(
    steps: list[tuple[int, float]], seed: int, kind: str, window: int, churn_s: float
) -> None:
    chance = Random(seed)
    world = World(
        chance,
        client_models=CLIENT_MODELS,
        connect={"rate_per_s": 3},
        events={"kind": kind, "period_s": 0.5},
        max_in_flight=window,
        churn_period_s=churn_s,
    )
    server, population, ledger = world.server, world.population, world.ledger
    population.connect(world.now_s)
    population.sender.begin(world.now_s, world.now_s)
    world.pass_s(1)
    for what, wait_s in steps:
        server.act(what)
        server.settle()
        world.check()
        world.pass_s(wait_s)
    population.sender.pause()
    population.finish()
    server.kind = True
    for _ in range(400):
        world.pass_s(0.5)
        for wire in list(server.wires):
            if wire.unanswered:
                ids, wire.unanswered = wire.unanswered, []
                server.acked |= {(wire.device.slot, name) for name in ids}
                wire.say(frame({"type": "ack", "ids": ids, "durability": "indexed"}))
        if not ledger.in_flight and not ledger.waiting:
            break
    assert (ledger.in_flight, ledger.waiting, ledger.lost) == (0, 0, 0)
    assert ledger.acked + ledger.nacked == ledger.sent == len(server.seen)
    # What the device believes acked was acked.
    for slot in range(DEVICES):
        for part in filter(None, ledger.acked_ranges(slot).split(",")):
            first, _, last = part.partition("-")
            assert {(slot, f"r.{n}") for n in range(int(first), int(last or first) + 1)} <= server.acked
    population.close()
    world.pass_s(20)
    assert population.counts[DONE] == DEVICES


def test_events_come_at_their_intended_moments() -> None:
    world = World(Random(1), events={"period_s": 10})
    world.server.kind = True
    world.population.connect(world.now_s)
    world.pass_s(1)
    assert world.population.counts[UP] == DEVICES
    world.population.sender.begin(world.now_s, world.now_s)
    began_ms = round((world.now_s + 1e9) * 1000)
    world.pass_s(29.9)
    for slot in range(DEVICES):
        times = [event["time"] for (own, _), event in world.server.seen.items() if own == slot]
        assert len(times) == 3
        assert times[1] - times[0] == times[2] - times[1] == 10_000
        assert began_ms <= times[0] < began_ms + 10_000


def test_a_stall_does_not_lower_the_load() -> None:
    world = World(Random(1), events={"period_s": 1})
    world.server.kind = True
    world.population.connect(world.now_s)
    world.pass_s(1)
    world.population.sender.begin(world.now_s, world.now_s)
    world.pass_s(1)
    world.now_s += 20
    world.pass_s(0.1)
    assert world.ledger.sent >= 21 * DEVICES


def test_a_device_that_leaves_after_a_stall_waits_for_the_answer() -> None:
    world = World(Random(1))
    world.server.kind = True
    world.population.connect(world.now_s)
    world.pass_s(1)
    world.now_s += 20
    for wire in list(world.server.wires):
        wire.say(frame({"type": "goaway", "reason": "drain", "reconnect_after_ms": 400}))
    world.population.turn()
    world.server.settle()
    assert world.tally.closed == {1000: DEVICES}


def test_a_server_that_is_never_heard_is_left() -> None:
    world = World(Random(1), events={"period_s": 0})
    world.server.kind = True
    world.population.connect(world.now_s)
    world.pass_s(112)
    assert world.tally.connects == DEVICES
    world.pass_s(10)
    assert world.tally.connects == 2 * DEVICES
    assert world.tally.unexpected == DEVICES


def test_a_half_open_device_falls_silent_once() -> None:
    world = World(Random(1), events={"period_s": 1}, half_open=1.0, half_open_s=5)
    world.server.kind = True
    world.population.connect(world.now_s)
    world.population.sender.begin(world.now_s, world.now_s)
    world.pass_s(75)
    assert world.tally.connects == 2 * DEVICES
    assert (world.tally.unexpected, world.tally.closed) == (0, {1006: DEVICES})
    assert world.ledger.lost == 0


def stalled(world: World, for_s: float) -> None:
    """All devices are connected and send, and then nothing passes for a while."""
    world.server.kind = True
    world.population.connect(world.now_s)
    world.population.sender.begin(world.now_s, world.now_s)
    world.pass_s(12)
    world.population.cut(world.population.connected(), "stall", for_s=for_s)


def test_a_stalled_device_goes_on_with_the_same_connection() -> None:
    world = World(Random(1), events={"period_s": 1})
    stalled(world, 20)
    sent = len(world.server.seen)
    world.pass_s(19)
    assert len(world.server.seen) == sent
    world.pass_s(2)
    assert len(world.server.seen) > sent + 19 * DEVICES
    assert (world.tally.connects, world.tally.closed) == (DEVICES, {})


def test_a_stalled_device_finds_out_that_its_connection_is_gone() -> None:
    world = World(Random(1), events={"period_s": 1}, client_models={"esp-idf": 1.0})
    stalled(world, 20)
    world.pass_s(10)
    for wire in list(world.server.wires):
        wire.end()
    world.pass_s(1)
    assert world.tally.closed == {1006: DEVICES}
    world.pass_s(11)
    assert world.tally.connects == 2 * DEVICES
    assert world.population.counts[GIVEN_UP] == 0


def connects_of(world: World) -> Latencies:
    found = Latencies()
    found.add(world.tally.connect.take())
    return found


def test_a_connect_counts_from_its_intended_moment() -> None:
    world = World(Random(1), connect={"rate_per_s": 10})
    world.server.kind = True
    world.population.connect(world.now_s)
    world.now_s += 20
    world.pass_s(1)
    found = connects_of(world)
    assert found.count == DEVICES
    least, most = found.percentiles_ms(1, 100)
    assert 19_000 < (least or 0) < (most or 0) <= 20_200


def test_a_connect_that_waits_for_its_turn_counts_from_its_intended_moment() -> None:
    world = World(Random(1), connect={"kind": "at_once"}, connects_at_a_time=1)
    world.server.kind = True
    world.server.slow = True
    world.population.connect(world.now_s)
    for _ in range(DEVICES):
        world.pass_s(1)
        world.server.answer()
    world.pass_s(0.1)
    found = connects_of(world)
    assert found.count == DEVICES
    assert found.percentiles_ms(100)[0] == pytest.approx(1000 * DEVICES, rel=0.1)


def test_what_faulty_devices_wait_for_is_counted_apart() -> None:
    world = World(
        Random(1),
        events={"period_s": 1},
        half_open=0.5,
        half_open_s=5,
        half_open_after_min_s=1,
        half_open_after_max_s=2,
    )
    world.server.kind = True
    world.population.connect(world.now_s)
    world.population.sender.begin(world.now_s, world.now_s)
    for _ in range(100):
        world.pass_s(0.2)
        for wire in list(world.server.wires):
            ids, wire.unanswered = wire.unanswered, []
            if ids:
                wire.say(frame({"type": "ack", "ids": ids, "durability": "indexed"}))
    healthy, faulty = Latencies(), Latencies()
    healthy.add(world.tally.ack.take())
    faulty.add(world.tally.faulty_ack.take())
    assert healthy.count + faulty.count == world.ledger.acked
    assert (healthy.percentiles_ms(100)[0] or 0) < 500
    # It fell silent and woke up: what it wanted to send meanwhile came late, and is its own.
    assert (faulty.percentiles_ms(100)[0] or 0) > 4000
