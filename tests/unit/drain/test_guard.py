"""What a guard decides at a pause hook, and that it says why."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from gateway.drain.guard import Action, Bounds, Decision, Pause, Readings, decide
from gateway.drain.guarding import Guard
from gateway.drain.ports import GuardedState
from gateway.errors import CallError, CallErrorKind, HeiwaError
from tests.support.fake_clock import FakeClock

PAUSE = Pause("d-1", "h-1", "PRE_PRODUCTION_TRAFFIC_SHIFT", 0.05, "8", "7")
BOUNDS = Bounds(min_devices=100, minutes=3)
OLD = Readings((4000, 4000, 4000), (0.1, 0.1, 0.1), our_fault=4, refused=2, closed=300, events_refused=40)
GOOD = Readings((120, 150, 180), (0.11, 0.1, 0.12), our_fault=1, refused=0, closed=3, events_refused=1)


def test_before_the_first_step_there_is_nothing_to_judge() -> None:
    found = decide(replace(PAUSE, weight=0.0), Readings(), OLD, BOUNDS)
    assert found.action is Action.CONTINUE
    assert "nothing to judge" in found.reason


def test_a_first_deployment_has_nothing_to_be_compared_with() -> None:
    found = decide(replace(PAUSE, old="", first=True, weight=1.0), Readings(), Readings(), BOUNDS)
    assert found.action is Action.CONTINUE
    assert "the first one" in found.reason


@pytest.mark.parametrize("devices", [(), (120, 150), (90, 120, 150), (120, 99, 150)])
def test_too_few_devices_wait(devices: tuple[float, ...]) -> None:
    found = decide(PAUSE, replace(GOOD, devices=devices), OLD, BOUNDS)
    assert found.action is Action.WAIT
    assert "not enough devices yet" in found.reason
    assert ("telemetry.revision empty" in found.reason) is (not devices)
    assert "The hook ends" not in found.reason
    found = decide(replace(PAUSE, ends="ROLLBACK at 17:45 UTC"), replace(GOOD, devices=devices), OLD, BOUNDS)
    assert "The hook ends with ROLLBACK at 17:45 UTC" in found.reason


def test_exactly_the_devices_that_are_asked_for_are_enough() -> None:
    assert decide(PAUSE, replace(GOOD, devices=(100, 100, 100)), OLD, BOUNDS).action is Action.CONTINUE


@pytest.mark.parametrize(("closes", "action"), [(4, Action.CONTINUE), (5, Action.ROLLBACK)])
def test_a_rate_counts_from_five_events_on(closes: int, action: Action) -> None:
    assert decide(PAUSE, replace(GOOD, our_fault=closes), OLD, BOUNDS).action is action


def test_what_is_near_the_old_one_goes_on_and_says_all_figures() -> None:
    found = decide(PAUSE, GOOD, OLD, BOUNDS)
    assert found.action is Action.CONTINUE
    for text in ("revision 8 against 7", "150 devices for 3 minutes", "ack p99 110 ms", "our fault", "refused"):
        assert text in found.reason


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"ack_p99_s": (0.4, 0.5, 0.1)}, "ack p99 400 ms (old 100 ms, at most 250 ms)"),
        ({"our_fault": 9}, "closes by our fault 1.2 a device and hour"),
        ({"refused": 20}, "refused handshakes"),
        ({"closed": 30}, "unplanned closes 4 a device and hour (old 1.5, at most 2.25, 30 in all"),
        ({"events_refused": 6}, "refused events 0.8 a device and hour (old 0.2, at most 0.3, 6 in all"),
    ],
)
def test_what_is_worse_goes_back_and_says_only_that(changed: dict[str, object], named: str) -> None:
    found = decide(PAUSE, replace(GOOD, **changed), OLD, BOUNDS)
    assert found.action is Action.ROLLBACK
    assert named in found.reason
    assert found.reason.count(";") == 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"opened": 10, "refused": 150}, "of 160 handshakes 94% were refused or ended by our fault (old 5%)"),
        ({"opened": 150, "our_fault": 120, "closed": 120}, "80% were refused or ended by our fault"),
        ({"opened": 150, "closed": 140}, "93% were refused or ended unplanned (old 20%)"),
    ],
)
def test_a_revision_that_keeps_no_devices_goes_back(changed: dict[str, float], named: str) -> None:
    usual = Readings((4000, 4000, 4000), (0.1,), our_fault=2, refused=98, closed=300, opened=1900)
    found = decide(PAUSE, replace(Readings((2, 0, 5)), **changed), usual, BOUNDS)
    assert found.action is Action.ROLLBACK
    assert named in found.reason
    # At the last step nobody comes to the old one any more.
    assert (
        decide(PAUSE, replace(Readings((2, 0, 5)), **changed), Readings((2,)), BOUNDS, usual).action is Action.ROLLBACK
    )


def test_few_handshakes_and_what_befalls_both_and_what_nobody_knows_wait() -> None:
    refusing, bad = Readings((4000,) * 3, refused=900, opened=100), Readings((2, 0, 5), opened=10, refused=150)
    for new, old in ((bad, refusing), (bad, Readings()), (Readings((2, 0, 5), opened=9, refused=90), OLD)):
        assert decide(PAUSE, new, old, BOUNDS).action is Action.WAIT


def test_devices_that_come_again_and_again_meet_the_new_one_by_its_weight() -> None:
    """Of 19,000 handshakes with the old one and 1,000 with the new one a twentieth is refused, and a fifth ends."""
    old = Readings((4000,) * 3, (0.1,), opened=18_050, refused=950, closed=3800)
    new = Readings((120,) * 3, (0.1,), opened=950, refused=50, closed=200)
    assert decide(PAUSE, new, old, BOUNDS).action is Action.CONTINUE
    for changed in ({"refused": 100}, {"closed": 400}, {"our_fault": 5}):
        assert decide(PAUSE, replace(new, **changed), old, BOUNDS).action is Action.ROLLBACK


def test_a_few_events_are_no_rate_and_an_old_one_that_is_silent_leaves_the_floors() -> None:
    assert decide(PAUSE, replace(GOOD, our_fault=4), OLD, BOUNDS).action is Action.CONTINUE
    assert decide(PAUSE, replace(GOOD, ack_p99_s=()), Readings(), BOUNDS).action is Action.CONTINUE
    assert decide(PAUSE, replace(GOOD, our_fault=9), Readings(), BOUNDS).action is Action.ROLLBACK


@pytest.mark.parametrize("changed", [{"weight": None}, {"weight": 0.0, "stage": "POST_PRODUCTION_TRAFFIC_SHIFT"}])
def test_a_weight_that_is_late_or_missing_does_not_say_that_no_traffic_has_moved(changed: dict[str, object]) -> None:
    pause = replace(PAUSE, **changed)
    assert decide(pause, replace(GOOD, our_fault=50), OLD, BOUNDS).action is Action.ROLLBACK
    assert decide(pause, GOOD, OLD, BOUNDS).action is Action.CONTINUE
    assert decide(pause, Readings(), OLD, BOUNDS).action is Action.WAIT


def test_before_ecs_has_weights_to_tell_there_is_nothing_to_judge() -> None:
    for stage in ("PRE_SCALE_UP", "POST_TEST_TRAFFIC_SHIFT"):
        assert decide(replace(PAUSE, weight=None, stage=stage), Readings(), OLD, BOUNDS).action is Action.CONTINUE


@pytest.mark.parametrize("changed", [{"old": ""}, {"new": ""}])
def test_a_revision_that_is_not_told_is_no_first_deployment(changed: dict[str, str]) -> None:
    found = decide(replace(PAUSE, **changed), GOOD, OLD, BOUNDS)
    assert found.action is Action.WAIT
    assert "does not tell" in found.reason


def test_an_old_one_that_is_almost_empty_is_known_by_its_last_hour() -> None:
    hour = Readings((4000,) * 60, (0.1,) * 60, closed=1200, acked=480_000)
    usual, bad = replace(GOOD, closed=7), replace(GOOD, closed=20)
    # None of its last devices left, or one of two did: neither says what is usual.
    for left in (Readings((0, 0, 0)), Readings((2, 2, 2)), Readings((2, 2, 2), closed=1)):
        assert decide(PAUSE, replace(usual, closed=2), left, BOUNDS, hour).action is Action.CONTINUE
        assert (
            decide(PAUSE, replace(usual, closed=5), left, BOUNDS, replace(hour, closed=2400)).action is Action.CONTINUE
        )
        assert decide(PAUSE, bad, left, BOUNDS, hour).action is Action.ROLLBACK


def test_what_befalls_both_in_the_same_minutes_is_no_fault_of_the_new_one() -> None:
    hour = Readings((4000,) * 60, (0.1,) * 60, closed=300)
    slow = replace(OLD, ack_p99_s=(2, 2, 2), closed=2000)
    assert decide(PAUSE, replace(GOOD, ack_p99_s=(2, 2, 2), closed=60), slow, BOUNDS, hour).action is Action.CONTINUE


def test_a_new_one_that_acknowledges_nothing_goes_back() -> None:
    silent, talking = replace(GOOD, ack_p99_s=()), replace(OLD, acked=12_000)
    found = decide(PAUSE, silent, talking, BOUNDS)
    assert found.action is Action.ROLLBACK
    assert "no acks were measured (old 60 a device and hour)" in found.reason
    assert decide(PAUSE, silent, replace(OLD, acked=400), BOUNDS).action is Action.CONTINUE


def test_what_only_the_old_one_could_tell_waits_for_it() -> None:
    for changed in ({"closed": 9}, {"events_refused": 9}, {"ack_p99_s": (0.4, 0.4, 0.4)}):
        found = decide(PAUSE, replace(GOOD, **changed), Readings(), BOUNDS)
        assert found.action is Action.WAIT
        assert "the old one told nothing" in found.reason


class Scripted:
    """The port, from a list: states, or errors. The last one stays."""

    def __init__(self, *states: GuardedState | BaseException, new: Readings = GOOD) -> None:
        self._states = deque(states)
        self._new = new
        self.resumed: list[tuple[str, Action]] = []
        self.first = True

    async def state(self) -> GuardedState:
        found = self._states.popleft() if len(self._states) > 1 else self._states[0]
        if isinstance(found, BaseException):
            raise found
        return found

    async def readings(self, revision: str, minutes: int) -> Readings:
        return self._new if revision == PAUSE.new else OLD

    async def resume(self, pause: Pause, action: Action) -> bool:
        self.resumed.append((pause.hook, action))
        return self.first

    async def close(self) -> None: ...


WAITING = GuardedState(goes_on=True, pause=PAUSE)
GOES_ON = GuardedState(goes_on=True)
DONE, FAILED = GuardedState(goes_on=False, outcome=True), GuardedState(goes_on=False, outcome=False)


def run(guarded: Scripted, **options: bool) -> tuple[bool, list[Decision]]:
    told: list[Decision] = []
    guard = Guard(guarded, FakeClock(), BOUNDS, lambda _, one: told.append(one), period_s=0.0, **options)

    async def whole() -> bool:
        async with asyncio.timeout(10):
            return await guard.run()

    return asyncio.run(whole()), told


def test_it_continues_each_hook_once_and_ends_with_the_deployment() -> None:
    second = GuardedState(goes_on=True, pause=replace(PAUSE, hook="h-2", weight=0.1))
    guarded = Scripted(GOES_ON, WAITING, WAITING, GOES_ON, second, second, GOES_ON, DONE)
    done, told = run(guarded)
    assert done
    assert guarded.resumed == [("h-1", Action.CONTINUE), ("h-2", Action.CONTINUE)]
    assert len(told) == 2


@pytest.mark.parametrize(
    "error",
    [
        CallError(CallErrorKind.NOT_FOUND, "no such service"),
        CallError(CallErrorKind.DENIED, "allow ecs:DescribeServices"),
        KeyError("unforeseen"),
    ],
)
def test_one_that_is_kept_waits_for_a_service_and_its_permissions(error: Exception) -> None:
    class Ended(BaseException):
        pass

    guarded = Scripted(error, error, error, error, WAITING, WAITING, GOES_ON, FAILED, error, Ended())
    with pytest.raises(Ended):
        run(guarded, keep=True)
    assert guarded.resumed == [("h-1", Action.CONTINUE)]


def test_one_look_alone_decides_nothing() -> None:
    bad = replace(GOOD, our_fault=50)
    for changed in (replace(PAUSE, first=True, old=""), replace(PAUSE, weight=0.0)):
        old_copy = GuardedState(goes_on=True, pause=changed)
        guarded = Scripted(WAITING, old_copy, WAITING, old_copy, DONE, new=bad)
        assert run(guarded) == (True, [])
        assert guarded.resumed == []


def test_a_rollback_is_told_by_its_result() -> None:
    guarded = Scripted(WAITING, WAITING, GOES_ON, FAILED, new=replace(GOOD, our_fault=50))
    done, told = run(guarded)
    assert not done
    assert guarded.resumed == [("h-1", Action.ROLLBACK)]
    assert told[0].action is Action.ROLLBACK


def test_to_wait_is_said_once() -> None:
    guarded = Scripted(WAITING, WAITING, WAITING, DONE, new=Readings())
    done, told = run(guarded)
    assert (done, guarded.resumed) == (True, [])
    assert [one.action for one in told] == [Action.WAIT]


def test_who_comes_second_does_no_harm() -> None:
    guarded = Scripted(WAITING, WAITING, GOES_ON, DONE)
    guarded.first = False
    assert run(guarded)[0]


def test_a_dry_run_changes_nothing_and_tells_of_each_hook() -> None:
    before = GuardedState(goes_on=True, pause=replace(PAUSE, hook="h-0", weight=0.0))
    for new, last, actions in (
        (GOOD, DONE, [Action.CONTINUE, Action.CONTINUE]),
        (GOOD, FAILED, [Action.CONTINUE, Action.CONTINUE]),
        (replace(GOOD, our_fault=50), WAITING, [Action.CONTINUE, Action.ROLLBACK]),
    ):
        guarded = Scripted(before, before, before, GOES_ON, WAITING, WAITING, WAITING, last, new=new)
        done, told = run(guarded, dry_run=True)
        assert (done, [one.action for one in told]) == (last is DONE, actions)
        assert guarded.resumed == []


def test_revisions_of_one_task_definition_are_judged_together_against_the_hour_before() -> None:
    same, hour = (
        replace(PAUSE, new="7"),
        Readings((4000,) * 60, (0.1,) * 60, our_fault=80, closed=6000, events_refused=800),
    )
    for now, action in (
        (OLD, Action.CONTINUE),
        (replace(OLD, our_fault=40), Action.ROLLBACK),
        (replace(OLD, ack_p99_s=(0.4, 0.4, 0.4)), Action.ROLLBACK),
        (Readings(), Action.WAIT),
    ):
        found = decide(same, now, now, BOUNDS, hour)
        assert found.action is action
        assert "judged together" in found.reason


def test_an_error_decides_nothing() -> None:
    lost = CallError(CallErrorKind.UNREACHABLE, "away")
    denied = CallError(CallErrorKind.DENIED, "not just now")
    guarded = Scripted(WAITING, WAITING, lost, lost, GOES_ON, denied, denied, GOES_ON, denied, lost, DONE)
    assert run(guarded) == (True, run(Scripted(WAITING, WAITING, DONE))[1])


@pytest.mark.parametrize(
    "states",
    [
        [CallError(CallErrorKind.DENIED, "allow ecs:DescribeServices")],
        [CallError(CallErrorKind.NOT_FOUND, "no such service")],
        [WAITING, *[CallError(CallErrorKind.DENIED, "allow ecs:ContinueServiceDeployment")] * 3],
    ],
)
def test_what_a_person_has_to_mend_ends_it(states: Iterable[GuardedState | Exception]) -> None:
    with pytest.raises(HeiwaError):
        run(Scripted(*states))


@pytest.mark.parametrize(("state", "after_s"), [(GuardedState(goes_on=False), 300), (GOES_ON, 7200)])
async def test_the_time_is_bounded(state: GuardedState, after_s: float) -> None:
    clock = FakeClock()
    guard = Guard(Scripted(state), clock, BOUNDS, lambda *_: None, period_s=0.0)
    running = asyncio.create_task(guard.run())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not running.done()
    clock.advance(after_s)
    with pytest.raises(HeiwaError, match=r"within 300 s|left alone"):
        async with asyncio.timeout(10):
            await running
