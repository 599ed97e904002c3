"""How connections follow the weights: the budget holds, nothing is a burst, and no rollback moves anybody."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drain.deployment import Deployment, Revision, Step, Strategy, steps
from gateway.drain.weights import HURRY, Outcome, Shift, early_s, early_share, needed

CANARY = steps(Strategy.CANARY, 600)
LINEAR = steps(Strategy.LINEAR, 600)
BLUE_GREEN = steps(Strategy.BLUE_GREEN, 600)


def seen(of: tuple[Step, ...], weight: float | None, stage: str = "", *, going_back: bool = False) -> Deployment:
    return Deployment("d", Strategy.LINEAR, Revision("new", weight), steps=of, stage=stage, going_back=going_back)


class Play:
    """One old task among equals: what goes back to old tasks comes back to this one, on average."""

    def __init__(self, of: tuple[Step, ...], connections: int, hops: float = 0.25) -> None:
        self.of = of
        self.left = float(connections)
        self.now_s = 0.0
        self.owed = 0.0
        self.rates: list[float] = []
        self.shift = Shift(seen(of, 0.0), connections, hops)

    def learn(self, place: int, late_s: float = 0.0) -> None:
        stage = "BAKE_TIME" if place == len(self.of) - 1 else "PRODUCTION_TRAFFIC_SHIFT"
        of_now = seen(self.of, self.of[place].weight, stage)
        self.shift.learn(of_now, round(self.left), self.now_s - late_s, self.now_s)

    def pass_time(self, seconds: float) -> float:
        """The highest rate meanwhile."""
        rates = []
        for _ in range(round(seconds)):
            rate = self.shift.rate_per_s(self.now_s, round(self.left))
            rates.append(rate)
            self.owed += min(rate, self.left)
            count = min(int(self.owed), self.shift.left)
            self.owed -= int(self.owed)
            self.shift.closed(count)
            self.left -= count * self.shift.weight
            self.now_s += 1
        self.rates += rates
        return max(rates, default=0.0)

    def whole(self, lag_s: float = 0.0) -> None:
        for place, step in enumerate(self.of):
            self.pass_time(lag_s)
            self.learn(place, lag_s)
            self.pass_time(step.lasts_s - lag_s)


def test_a_step_that_waits_has_had_its_share_though_more_early_ones_follow() -> None:
    of = (Step(0.1, 60), Step(0.3, 60), Step(0.6, 60), Step(1.0, 60))
    play = Play(of, 10_000)
    play.learn(0)
    assert play.pass_time(60) > 0
    assert play.pass_time(60) == 0, "a hook waits"
    play.learn(1)
    assert play.pass_time(1) > 0


def test_the_bake_time_begins_when_the_service_says_so() -> None:
    play = Play(BLUE_GREEN, 1000)
    waits = seen(BLUE_GREEN, 1.0, "POST_PRODUCTION_TRAFFIC_SHIFT")
    play.shift.learn(waits, 1000, play.now_s, play.now_s)
    play.now_s += 500
    play.learn(0)
    assert play.shift.end_s(play.now_s) == play.now_s + 600
    play.now_s += 200
    assert play.shift.rate_per_s(play.now_s, 1000) > 0
    assert play.shift.end_s(play.now_s) == play.now_s + 400


def test_a_canary_meets_a_quarter_of_the_devices_times_its_weight() -> None:
    play = Play(CANARY, 5000)
    play.whole()
    assert play.shift.by_step[0] == pytest.approx(1250, abs=2)
    assert play.left < 50
    assert play.shift.spent <= play.shift.budget == 6250


@pytest.mark.parametrize("of", [CANARY, LINEAR, BLUE_GREEN], ids=["canary", "linear", "blue-green"])
@pytest.mark.parametrize("lag_s", [0.0, 30.0, 240.0])
def test_the_clean_up_finds_few(of: tuple[Step, ...], lag_s: float) -> None:
    play = Play(of, 5000)
    play.whole(lag_s)
    assert play.left <= 500
    assert (play.shift.spent + play.left) / 5000 <= 1.3


def test_within_a_step_it_is_even() -> None:
    play = Play(LINEAR, 5000)
    for place, step in enumerate(LINEAR):
        play.learn(place)
        play.rates.clear()
        play.pass_time(step.lasts_s)
        moving = [rate for rate in play.rates if rate]
        if len(moving) > 60 and sum(moving) > 100:
            assert max(moving) <= 1.3 * sum(moving) / len(moving)


@pytest.mark.parametrize("lag_s", [0, 30, 240])
def test_weights_that_are_noticed_late_leave_no_gap(lag_s: float) -> None:
    """Each step is noticed as late as the one before it, and lasts as long: no hurry, and nothing stands still."""
    play = Play(LINEAR, 5000)
    play.whole(lag_s)
    late = play.rates[round(4 * 360 + lag_s) : round(9 * 360 + lag_s)]
    assert min(late) > 0
    for place in range(5):
        closes = late[place * 360 : (place + 1) * 360]
        assert max(closes) <= 1.05 * sum(closes) / 360


def test_a_step_that_is_held_has_had_its_share() -> None:
    play = Play(CANARY, 5000)
    play.learn(0)
    play.pass_time(600)
    spent = play.shift.spent
    assert play.pass_time(7200) == 0
    assert play.shift.spent == spent
    play.learn(1, 30)
    play.pass_time(580)
    assert play.left < 300


def test_full_weight_waits_for_its_bake_time_without_a_rush() -> None:
    play = Play(BLUE_GREEN, 1000)
    play.shift.learn(seen(BLUE_GREEN, 1.0, "POST_PRODUCTION_TRAFFIC_SHIFT"), 1000, 0.0, 0.0)
    highest = play.pass_time(3600)
    assert 0 < highest <= 1000 / 600 + 0.01
    assert play.left > 0
    play.learn(0)
    play.pass_time(600)
    assert play.left < 5


def test_what_was_missed_is_no_burst() -> None:
    play = Play(CANARY, 5000)
    play.pass_time(590)
    play.learn(0, 590)
    assert play.pass_time(10) <= HURRY * 1250 / 600


@pytest.mark.parametrize("asked_s", [0.0, 300.0])
def test_a_bake_time_has_not_begun_before_the_steps_in_between_had_their_time(asked_s: float) -> None:
    """The API fails over a whole canary, or from its middle on, until a minute after its end."""
    play = Play(CANARY, 5000)
    if asked_s:
        play.learn(0)
        play.pass_time(asked_s)
    play.now_s = 660.0
    play.learn(1, 660 - asked_s)
    assert play.shift.end_s(660) == 1200
    play.pass_time(540)
    assert play.left < 5


def test_a_bake_time_that_lasts_longer_moves_the_rest_evenly() -> None:
    play = Play(BLUE_GREEN, 1000)
    play.learn(0)
    play.now_s += 900
    play.learn(0)
    assert play.pass_time(60) == pytest.approx(1000 / 600)
    assert play.left < 910
    play = Play(steps(Strategy.BLUE_GREEN, 0), 1000)
    play.learn(0)
    assert play.pass_time(60) == 0


def test_a_rollback_moves_nobody() -> None:
    play = Play(LINEAR, 5000)
    play.learn(5)
    play.pass_time(100)
    for back in (False, False, True):
        play.shift.learn(seen(LINEAR, 0.3, going_back=back), round(play.left), play.now_s, play.now_s)
        assert play.shift.outcome is (Outcome.ROLLED_BACK if back else None)
        assert play.pass_time(1000) == 0


def test_old_answers_with_a_lower_weight_hold_and_ends_nothing() -> None:
    play = Play(LINEAR, 5000)
    play.learn(5)
    rate = play.pass_time(100)
    for weight in (0.3, 0.0, 0.0):
        play.shift.learn(seen(LINEAR, weight), round(play.left), play.now_s, play.now_s)
        assert play.pass_time(30) == 0
        play.shift.learn(seen(LINEAR, None), round(play.left), play.now_s, play.now_s)
        assert play.pass_time(30) == 0
        play.learn(5)
        assert play.shift.outcome is None
        assert 0 < play.pass_time(30) <= HURRY * rate


def test_a_status_that_goes_back_moves_nobody_before_the_weights_do() -> None:
    play = Play(LINEAR, 5000)
    play.learn(5)
    play.shift.learn(seen(LINEAR, 0.6, going_back=True), round(play.left), play.now_s, play.now_s)
    assert play.pass_time(1000) == 0


def test_the_clean_up_is_the_drains() -> None:
    play = Play(BLUE_GREEN, 5000)
    play.learn(0)
    play.shift.learn(seen(BLUE_GREEN, 1.0, "CLEAN_UP"), 5000, 0.0, 0.0)
    assert play.pass_time(100) == 0


def test_nobody_is_sent_to_a_revision_without_tasks() -> None:
    play = Play(BLUE_GREEN, 5000)
    empty = Deployment("d", Strategy.BLUE_GREEN, Revision("new", 1.0, tasks=0), steps=BLUE_GREEN, stage="BAKE_TIME")
    play.shift.learn(empty, 5000, 0.0, 0.0)
    assert play.pass_time(100) == 0
    play.learn(0)
    assert play.pass_time(100) > 0


def test_a_stage_that_nobody_knows_changes_nothing() -> None:
    play = Play(CANARY, 5000)
    play.shift.learn(seen(CANARY, 0.05, "A_STAGE_OF_NEXT_YEAR"), 5000, 0.0, 0.0)
    assert play.pass_time(10) == pytest.approx(1250 / 600, rel=0.01)
    play.shift.learn(seen(CANARY, None, "PRE_PRODUCTION_TRAFFIC_SHIFT"), 5000, 10.0, 10.0)
    assert play.pass_time(10) == pytest.approx(1250 / 600, rel=0.01)


def test_at_full_weight_a_stage_that_nobody_knows_may_be_the_bake_time() -> None:
    play = Play(BLUE_GREEN, 1000)
    play.shift.learn(seen(BLUE_GREEN, 1.0, "A_STAGE_OF_NEXT_YEAR"), 1000, 0.0, 0.0)
    play.pass_time(600)
    assert play.left < 5


def test_one_that_began_in_the_middle_counts_anew_when_the_late_steps_begin() -> None:
    play = Play(CANARY, 0)
    play.learn(0)
    assert play.pass_time(600) == 0
    play.left = 300.0
    play.learn(1)
    play.pass_time(600)
    assert play.left < 3


def test_who_would_have_left_anyway_costs_nothing() -> None:
    play = Play(CANARY, 5000)
    play.learn(0)
    play.shift.closed(5, 2)
    assert (play.shift.spent, play.shift.by_step) == (3, [5, 0])


def test_many_small_steps_leave_less_for_the_early_ones() -> None:
    assert early_share(CANARY, 0.25) == 0.25
    assert early_share(LINEAR, 0.25) == pytest.approx(1.25 - needed(LINEAR))
    assert early_share(BLUE_GREEN, 0.25) == 0.25
    assert early_s(BLUE_GREEN) == 0
    assert needed(()) == 1.0


_POLLS = st.tuples(
    st.floats(0, 400),  # seconds until the poll
    st.one_of(st.none(), st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])),
    st.sampled_from(["PRODUCTION_TRAFFIC_SHIFT", "PRE_PRODUCTION_TRAFFIC_SHIFT", "BAKE_TIME", "CLEAN_UP", "NEW"]),
    st.integers(-300, 300),  # devices that come or go by themselves
    st.booleans(),
)


@given(
    st.sampled_from([CANARY, LINEAR, BLUE_GREEN, steps(Strategy.CANARY, 0), steps(Strategy.LINEAR, 60, 3, 0)]),
    st.integers(0, 2000),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.lists(_POLLS, max_size=12),
)
def test_whatever_happens_the_budget_holds(
    of: tuple[Step, ...], connections: int, hops: float, polls: Iterable[tuple[float, float | None, str, int, bool]]
) -> None:
    play = Play(of, connections, hops)
    for wait_s, weight, stage, others, back in polls:
        before = play.shift.spent
        highest = play.pass_time(wait_s)
        assert play.shift.spent <= play.shift.budget
        if play.shift.weight < 0.5:
            assert play.shift.spent <= hops * play.shift.base
            # Never in a burst: at most so many times the even rate of what these steps may cost.
            assert highest * early_s(of) <= HURRY * hops * play.shift.base + 1e-6
        elif play.shift.place >= 0:
            whole = sum(step.weight**2 * step.lasts_s for step in of[play.shift.place :])
            assert highest * whole <= HURRY * play.shift.weight * play.shift.base + 1e-6
        if play.shift.outcome is not None:
            assert play.shift.spent == before or highest == 0
        play.left = max(0.0, play.left + others)
        found = seen(of, weight, stage, going_back=back)
        play.shift.learn(found, round(play.left), play.now_s - wait_s, play.now_s)
        if back:
            assert play.pass_time(50) == 0
