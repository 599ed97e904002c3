"""Arrivals keep their rate, their order and their seed."""

import math
import random
from itertools import islice, pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.scenario.arrivals import Arrival, daily_rate, moments

rates = st.floats(0.01, 1e5)
laws = st.one_of(
    st.builds(Arrival, kind=st.just("constant"), rate_per_s=rates),
    st.builds(Arrival, kind=st.just("poisson"), rate_per_s=rates),
    st.builds(Arrival, kind=st.just("at_once")),
    st.builds(Arrival, kind=st.just("ramp"), from_per_s=st.floats(0, 1e5), rate_per_s=rates, over_s=st.floats(1, 1e4)),
    st.builds(Arrival, kind=st.just("daily"), rate_per_s=rates, start_h=st.floats(0, 23.9), peak=st.floats(1, 20)),
)


def count(arrival: Arrival, until_s: float, seed: int = 1) -> int:
    return sum(1 for _ in takewhile(lambda at_s: at_s < until_s, moments(arrival, random.Random(seed))))


@given(laws, st.integers())
def test_moments_ascend_from_the_start(arrival: Arrival, seed: int) -> None:
    found = list(islice(moments(arrival, random.Random(seed)), 200))
    assert found == sorted(found)
    assert found[0] >= 0
    assert all(math.isfinite(at_s) for at_s in found)


@given(laws, st.integers())
def test_the_same_seed_gives_the_same_moments(arrival: Arrival, seed: int) -> None:
    first, second = (list(islice(moments(arrival, random.Random(seed)), 50)) for _ in range(2))
    assert first == second


@given(st.floats(0.1, 1000), st.floats(1, 50), st.integers())
def test_a_constant_rate_is_exact(rate: float, until_s: float, seed: int) -> None:
    assert abs(count(Arrival(rate_per_s=rate), until_s, seed) - rate * until_s) <= 1


def test_processes_with_one_rate_do_not_act_in_step() -> None:
    first = [next(moments(Arrival(rate_per_s=10), random.Random(f"1 fleet-{number}"))) for number in range(20)]
    assert len({round(at_s, 3) for at_s in first}) > 15


def test_poisson_has_its_mean_and_variance() -> None:
    found = list(islice(moments(Arrival(kind="poisson", rate_per_s=50), random.Random(5)), 20_000))
    gaps = [after - before for before, after in pairwise(found)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(0.02, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.05)


@given(st.floats(0, 200), st.floats(1, 200), st.floats(1, 30), st.integers())
def test_a_ramp_follows_the_integral_of_its_rate(first: float, last: float, over_s: float, seed: int) -> None:
    arrival = Arrival(kind="ramp", from_per_s=first, rate_per_s=last, over_s=over_s)
    half = first * over_s / 2 + (last - first) * over_s / 8
    assert abs(count(arrival, over_s / 2, seed) - half) <= 1.01
    assert abs(count(arrival, over_s, seed) - (first + last) / 2 * over_s) <= 1.01
    assert abs(count(arrival, over_s + 2, seed) - ((first + last) / 2 * over_s + 2 * last)) <= 1.01


def test_a_ramp_down_to_nothing_ends() -> None:
    assert len(list(moments(Arrival(kind="ramp", from_per_s=10, rate_per_s=0, over_s=10), random.Random(1)))) == 50


def test_a_day_has_its_mean() -> None:
    arrival = Arrival(kind="daily", rate_per_s=100, day_s=1000)
    steps = 10_000
    assert sum(daily_rate(arrival, step * 1000 / steps) for step in range(steps)) / steps == pytest.approx(
        100, rel=1e-3
    )


def test_a_day_has_two_peaks_over_its_quiet_hours() -> None:
    arrival = Arrival(kind="daily", rate_per_s=1, peak=6)
    by_hour = [daily_rate(arrival, hour * 3600) for hour in range(24)]
    assert sorted(range(24), key=lambda hour: -by_hour[hour])[:2] in ([8, 18], [18, 8])
    assert by_hour[8] / by_hour[2] == pytest.approx(6, rel=1e-3)
    assert min(by_hour[7], by_hour[9], by_hour[17], by_hour[19]) > 1.5 * by_hour[12]


def test_daily_arrivals_come_at_the_rate_of_their_hour() -> None:
    arrival = Arrival(kind="daily", rate_per_s=20, day_s=2400)
    within = [0] * 24
    for at_s in takewhile(lambda at_s: at_s < 2400, moments(arrival, random.Random(3))):
        within[int(at_s / 100)] += 1
    for hour, found in enumerate(within):
        expected = sum(daily_rate(arrival, hour * 100 + step) for step in range(100))
        assert abs(found - expected) < 6 * math.sqrt(expected), hour


def test_a_day_that_begins_in_the_morning_begins_with_a_peak() -> None:
    arrival = Arrival(kind="daily", rate_per_s=1, start_h=8)
    assert daily_rate(arrival, 0) == max(daily_rate(arrival, hour * 3600) for hour in range(24))


def test_events_take_their_rate_from_the_period() -> None:
    assert Arrival(kind="poisson", period_s=60).of_events(600) == Arrival(kind="poisson", period_s=60, rate_per_s=10)
    periodic = Arrival(period_s=30).of_events(600)
    assert periodic is not None
    assert (periodic.kind, periodic.period_s) == ("periodic", 30)
    assert Arrival(period_s=0).of_events(600) is None
    assert Arrival(rate_per_s=5).of_events(600) == Arrival(rate_per_s=5)


@pytest.mark.parametrize(
    ("arrival", "events", "field"),
    [
        (Arrival(kind="periodic"), False, "$.connect.kind"),
        (Arrival(kind="at_once"), True, "$.events.kind"),
        (Arrival(kind="poisson"), False, "$.connect.rate_per_s"),
    ],
)
def test_what_does_not_fit_names_the_field(arrival: Arrival, events: bool, field: str) -> None:
    assert field in (arrival.problem(events) or "")
