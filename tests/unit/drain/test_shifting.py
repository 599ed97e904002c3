"""A gateway whose connections follow the weights of a deployment: states, receipts, who goes first, who never moves."""

from __future__ import annotations

from msgspec import to_builtins

from gateway.cli.drain import describe
from gateway.drain.deployment import Deployment, Revision, Side, Strategy, steps
from gateway.drain.leaving import Origin
from gateway.drain.metrics import DrainMetrics
from gateway.drain.signals import Peers
from gateway.drain.states import Signal, State
from gateway.drain.status import status_of
from tests.support.draining import Fleet

CANARY = steps(Strategy.CANARY, 600)


def canary(weight: float, id: str = "one", stage: str = "", *, back: bool = False, over: bool = False) -> Deployment:
    return Deployment(
        id, Strategy.CANARY, Revision("new", weight), (Revision("old"),), CANARY, stage, going_back=back, over=over
    )


def follow(fleet: Fleet, found: Deployment | None, own: Side = Side.SOURCE, fresh_s: float = 1e6) -> State:
    now_s = fleet.drainer.now_s()
    fleet.drainer.follow_weights(found, own, now_s, fresh_s)
    return fleet.drainer.state


def test_a_canary_from_its_first_weight_to_the_clean_up() -> None:
    fleet = Fleet(400)
    assert follow(fleet, canary(0.0)) is State.SERVING
    assert follow(fleet, canary(0.05)) is State.SHIFTING
    left = fleet.pass_time(600)
    assert sum(left) == 100
    assert max(left) <= 2
    assert b'"reason":"shift"' in b"".join(bytes(transport.written) for _, transport in fleet.pairs)
    assert not fleet.drainer.refusing
    assert fleet.pass_time(600) == [0] * 2400
    follow(fleet, canary(1.0, stage="BAKE_TIME"))
    assert sum(fleet.pass_time(590)) >= 290
    fleet.hear(Signal.WITHDRAWN)
    receipt = fleet.drainer.last
    assert receipt is not None
    assert receipt.shift is not None
    assert (receipt.origin, receipt.outcome) == ("weights", "clean_up")
    assert receipt.shift.budget == 500
    assert [step.sent_away for step in receipt.shift.steps] == [100, receipt.sent_away - 100]
    assert fleet.drainer.state is State.DRAIN_PENDING
    assert fleet.drainer.closed["shift"] == receipt.sent_away


def test_a_rollback_ends_it_at_once_and_moves_nobody() -> None:
    fleet = Fleet(400)
    follow(fleet, canary(0.05))
    fleet.pass_time(60)
    assert follow(fleet, canary(0.05, back=True)) is State.SERVING
    assert fleet.drainer.last is not None
    assert fleet.drainer.last.outcome == "rolled_back"
    assert sum(fleet.pass_time(600)) == 0
    assert follow(fleet, canary(0.05)) is State.SERVING
    assert sum(fleet.pass_time(600)) == 0


def test_a_rollback_that_was_seen_first_is_not_followed_by_an_older_answer() -> None:
    fleet = Fleet(400)
    assert follow(fleet, canary(0.05, back=True)) is State.SERVING
    assert follow(fleet, canary(0.05)) is State.SERVING
    assert sum(fleet.pass_time(60)) == 0


def test_the_next_deployment_has_a_budget_of_its_own() -> None:
    fleet = Fleet(400)
    follow(fleet, canary(0.05))
    assert sum(fleet.pass_time(600)) == 100
    assert follow(fleet, canary(0.0, "two")) is State.SHIFTING
    assert follow(fleet, canary(0.0, "two")) is State.SERVING
    assert follow(fleet, canary(0.05, "two")) is State.SHIFTING
    assert sum(fleet.pass_time(600)) == 75
    follow(fleet, canary(0.05, "three"))
    assert follow(fleet, canary(0.05, "three")) is State.SHIFTING
    shift, last = fleet.drainer.following.shift, fleet.drainer.last
    assert shift is not None
    assert last is not None
    assert (shift.id, last.outcome) == ("three", "succeeded")


def test_an_answer_that_names_no_deployment_or_an_older_one_ends_nothing() -> None:
    fleet = Fleet(400)
    follow(fleet, canary(0.05))
    for old in (None, canary(1.0, "zero", over=True), canary(1.0, "zero")):
        assert follow(fleet, old) is State.SHIFTING
        assert sum(fleet.pass_time(60)) == 0
        assert follow(fleet, canary(0.05)) is State.SHIFTING
    assert sum(fleet.pass_time(60)) > 0
    for state in (State.SHIFTING, State.SERVING):
        assert follow(fleet, None) is state
    assert fleet.drainer.last is not None
    assert fleet.drainer.last.outcome == "succeeded"
    for _ in range(8):
        assert follow(fleet, canary(0.05)) is State.SHIFTING
        fleet.pass_time(60)
    assert fleet.drainer.following.shift is not None
    assert 90 <= fleet.drainer.following.shift.spent == 400 - fleet.drainer.remaining <= 100


def test_nobody_moves_for_others_and_none_without_evidence() -> None:
    for own in (Side.TARGET, Side.UNKNOWN):
        fleet = Fleet(40)
        assert follow(fleet, canary(0.5), own) is State.SERVING
    fleet = Fleet(40, "drain.follow_weights=false")
    assert follow(fleet, canary(0.5)) is State.SERVING
    assert follow(Fleet(40), canary(1.0, over=True)) is State.SERVING
    assert follow(Fleet(40), None) is State.SERVING


def test_an_old_answer_moves_nobody() -> None:
    fleet = Fleet(400)
    follow(fleet, canary(0.05), fresh_s=90)
    assert 10 <= sum(fleet.pass_time(90)) <= 20
    assert sum(fleet.pass_time(510)) == 0


def test_those_who_have_not_moved_yet_go_first() -> None:
    fleet = Fleet(100)
    fleet.bench.clock.advance(1)
    follow(fleet, canary(0.05))
    fleet.bench.clock.advance(1)
    fleet.pairs += [fleet.join(f"returned-{number}") for number in range(300)]
    follow(fleet, canary(1.0))
    for _ in range(7):
        follow(fleet, canary(1.0))
        fleet.pass_time(10)
    gone = [connection.device for connection, _ in fleet.pairs if not connection.stays]
    assert 20 < len(gone) < 100
    assert not any(device.startswith("returned") for device in gone)


def test_a_drain_taken_back_goes_on_with_what_is_left_of_the_budget() -> None:
    fleet = Fleet(400)
    follow(fleet, canary(0.05))
    fleet.pass_time(300)
    fleet.drainer.order(Origin.API, 3600)
    fleet.drainer.cancel()
    assert fleet.drainer.state is State.SERVING
    assert follow(fleet, canary(0.05)) is State.SHIFTING
    fleet.pass_time(300)
    shift = fleet.drainer.following.shift
    assert shift is not None
    assert shift.spent <= 100


def test_a_person_can_take_it_back() -> None:
    fleet = Fleet(400)
    follow(fleet, canary(0.05))
    fleet.drainer.cancel()
    assert fleet.drainer.last is not None
    assert fleet.drainer.last.outcome == "cancelled"
    assert follow(fleet, canary(0.05)) is State.SERVING


def test_what_the_receivers_take_bounds_it() -> None:
    fleet = Fleet(400, "drain.receiver_handshakes_per_s=0.1")
    fleet.knows(grouped=True, peers=Peers(1, 0, 1))
    follow(fleet, canary(1.0, stage="BAKE_TIME"))
    assert 50 <= sum(fleet.pass_time(600)) <= 62
    assert fleet.drainer.overrun == 0


def test_nobody_is_sent_to_a_group_without_a_healthy_target() -> None:
    fleet = Fleet(400)
    target = Revision("new", 0.05, tasks=4, groups=frozenset({"green"}))
    found = Deployment("one", Strategy.CANARY, target, (Revision("old"),), CANARY)
    for healthy, moves in (({}, True), ({"blue": 4, "green": 0}, False), ({"blue": 0, "green": 1}, True)):
        fleet.knows(healthy=healthy)
        assert follow(fleet, found) is State.SHIFTING
        assert (sum(fleet.pass_time(60)) > 0) is moves


def test_status_and_metrics_tell_of_it() -> None:
    fleet = Fleet(400)
    assert status_of(fleet.drainer, None).shift is None
    follow(fleet, canary(0.05, stage="PRODUCTION_TRAFFIC_SHIFT"))
    fleet.pass_time(60)
    status = status_of(fleet.drainer, None)
    assert status.shift is not None
    assert (status.shift.weight, status.shift.budget, status.shift.stage) == (0.05, 500, "PRODUCTION_TRAFFIC_SHIFT")
    assert status.progress is not None
    assert status.shift.spent == status.progress.sent_away == 10
    assert "5% of new connections (PRODUCTION_TRAFFIC_SHIFT); 10 of 500 closes" in describe(to_builtins(status))
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in DrainMetrics(fleet.drainer, None).collect()
        for sample in family.samples
    }
    assert told["heiwa_drain_state", "shifting"] == 1
    assert told["heiwa_drain_closed_total", "shift"] == told["heiwa_shift_spent_closes",] == 10
    assert told["heiwa_drain_connections_remaining",] == 0
    assert told["heiwa_shift_weight_ratio",] == 0.05
