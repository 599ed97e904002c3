"""What a deployment by weights would do, before it does: the texts that name one, and the figures of the play."""

from __future__ import annotations

import re

import pytest

from gateway.drain.deployment import Step, Strategy
from gateway.drain.strategy_plan import BALANCER, PATTERN, by_age, parse, play
from gateway.errors import QueryError

AGE_S = 30 * 3600.0


@pytest.mark.parametrize(
    ("text", "first", "last", "count"),
    [
        ("linear:10%:6m", Step(0.1, 360), Step(1.0, 600), 10),
        ("linear:25%:90s:5m", Step(0.25, 90), Step(1.0, 300), 4),
        ("canary", Step(0.05, 600), Step(1.0, 600), 2),
        ("Canary:0.5%:1h:30m", Step(0.005, 3600), Step(1.0, 1800), 2),
        ("blue-green", Step(1.0, 600), Step(1.0, 600), 1),
        ("blue-green:20m", Step(1.0, 1200), Step(1.0, 1200), 1),
    ],
)
def test_a_strategy_is_read(text: str, first: Step, last: Step, count: int) -> None:
    _, steps = parse(text)
    assert (steps[0], steps[-1], len(steps)) == (first, last, count)
    assert re.fullmatch(PATTERN, text.lower())


@pytest.mark.parametrize(
    "text",
    [
        *("", "rolling", "linear:6m", "linear:10%:6", "linear:0%:6m", "linear:2.9%", "linear:101%"),
        *("canary:0%", "canary:5%:10m:1m:1m", "canary:5%:25h"),
    ],
)
def test_what_is_none_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(QueryError, match="strategy: "):
        parse(text)


def test_what_the_pattern_lets_through_is_refused_for_its_bounds_only() -> None:
    assert not any(
        re.fullmatch(PATTERN, text) for text in ("", "rolling", "linear:6m", "canary:5%:10m:1m:1m", " canary")
    )
    assert re.fullmatch(PATTERN, BALANCER)


def test_a_canary_meets_forty_times_as_many_devices() -> None:
    strategy, steps = parse("canary:5%:10m:10m")
    found = play(strategy, steps, 5000, 4, 4, 0.25, 30.0, AGE_S)
    assert found.unfollowed == 6
    assert 240 <= found.steps[0].on_new <= 265
    assert found.hops <= 1.26
    assert found.left <= 20
    assert found.minutes == 20


def test_hops_and_the_clean_up_of_the_others() -> None:
    for text in ("linear:10%:6m:10m", "blue-green:10m", "linear:50%:1m:10m"):
        strategy, steps = parse(text)
        found = play(strategy, steps, 5000, 4, 4, 0.25, 30.0, AGE_S)
        assert found.hops <= 1.3
        assert found.left <= 0.1 * found.connections
        assert sum(step.closes for step in found.steps) <= found.budget


def test_without_a_bake_time_the_clean_up_finds_what_the_steps_left() -> None:
    strategy, steps = parse("blue-green:0s")
    found = play(strategy, steps, 1000, 1, 1, 0.25, 30.0, AGE_S)
    assert (found.left, found.hops) == (1000, 1.0)


def test_the_busiest_receiver_is_told() -> None:
    found = play(Strategy.BLUE_GREEN, (Step(1.0, 600),), 6000, 10, 2, 0.25, 30.0, AGE_S)
    assert found.receiver_per_s == pytest.approx(60_000 / 600 / 2, rel=0.05)
    assert play(Strategy.CANARY, (), 0, 1, 1, 0.25, 30.0, AGE_S).hops == 0


def test_another_balancer_takes_a_day_and_a_half_evenly() -> None:
    found = by_age(50_000, 8, 8, (24 * 3600.0, 36 * 3600.0))
    assert found.minutes == 36 * 60
    assert [step.closes_per_s for step in found.steps[:4]] == [pytest.approx(400_000 / (30 * 3600), rel=0.01)] * 4
    assert found.steps[4].closes > found.steps[5].closes > 0
    assert sum(step.closes for step in found.steps) == pytest.approx(400_000, abs=3)
    assert found.receiver_per_s == pytest.approx(3.7 / 8, rel=0.01)
    assert by_age(100, 1, 1, (3600.0, 3600.0)).steps[-1].on_new == 100
