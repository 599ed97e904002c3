"""What the next deploy will do: each line of it, and from where on it is a warning."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.drain.deployment import Step
from gateway.drain.outlook import BAD, GOOD, WARN, Facts, GroupFacts, Judgement, judge
from gateway.settings.model import Drain

GROUP = GroupFacts(
    "web",
    {"deregistration_delay.timeout_seconds": "300", "load_balancing.algorithm.type": "round_robin"},
    "/livez",
    "200",
    {"idle_timeout.timeout_seconds": "120"},
)
CALM = Facts(
    strategy="ROLLING",
    circuit_breaker=True,
    deferred=True,
    desired=4,
    stop_timeout_s=120,
    groups=(GROUP,),
    scales=True,
    scale_in_cooldown_s=1800,
)


def judged(facts: Facts = CALM, drain: Drain | None = None, heartbeat_s: float = 45) -> dict[str, Judgement]:
    return {one.name: one for one in judge(facts, drain or Drain(), heartbeat_s, 5, Random(1))}


def of_group(**changes: Any) -> Facts:
    attributes = {**GROUP.attributes, **changes.pop("attributes", {})}
    return replace(CALM, groups=(replace(GROUP, attributes=attributes, **changes),))


def test_a_calm_deploy() -> None:
    lines = judged()
    assert {one.verdict for one in lines.values()} == {GOOD}
    assert not any(one.mend for one in lines.values())
    assert list(lines) == ["strategy", "window", "duration", "stop", "routing", "health", "idle", "scale-in"]
    assert (
        lines["strategy"].found == "ROLLING, 100 to 200 %: 1 wave, 1.00 moves a device; one that fails is rolled back"
    )
    # D - M - 1.2 P: 300 - 15 - 6.
    assert lines["window"].found.startswith("10,000 devices of a task leave over 279 s, at most ")
    assert lines["duration"].found == "done after about 2 min; old tasks drain for 5 min more"
    assert "leave 110 s" in lines["stop"].found


@pytest.mark.parametrize(
    ("name", "facts", "told"),
    [
        ("strategy", replace(CALM, strategy="CANARY"), "a weight moves new connections only"),
        ("strategy", replace(CALM, maximum_percent=125), "4 waves, 1.44 moves a device"),
        ("strategy", replace(CALM, circuit_breaker=False), "tries on for ever"),
        ("window", of_group(attributes={"deregistration_delay.timeout_seconds": "20"}), "over 5 s"),
        ("duration", of_group(attributes={"deregistration_delay.timeout_seconds": "1200"}), "20 min more"),
        ("duration", replace(CALM, deferred=False, maximum_percent=150), "about 14 min"),
        ("stop", replace(CALM, stop_timeout_s=30), "stop time-out 30 s"),
        ("routing", of_group(attributes={"load_balancing.algorithm.type": "least_outstanding_requests"}), "least"),
        ("routing", of_group(attributes={"stickiness.enabled": "true"}), "sticky"),
        ("health", of_group(health_path="/readyz"), "/readyz"),
        ("health", of_group(health_path="/"), "web: /"),
        ("health", of_group(matcher="200-499"), "200-499"),
        ("scale-in", replace(CALM, scale_in_cooldown_s=60), "each 60 s"),
        ("scale-in", replace(CALM, scale_in_cooldown_s=None), "without target tracking"),
    ],
)
def test_what_is_not_calm_is_told_with_its_mend(name: str, facts: Facts, told: str) -> None:
    line = judged(facts)[name]
    assert (line.verdict, told in line.found) == (WARN, True), line
    assert line.mend
    others = {other.verdict for other in judged(facts).values() if other.name not in (name, "duration", "strategy")}
    assert others == {GOOD}


def test_a_balancer_that_ends_what_is_silent_is_wrong() -> None:
    assert judged(of_group(balancer={"idle_timeout.timeout_seconds": "45"}))["idle"].verdict == BAD
    assert judged(heartbeat_s=119)["idle"].verdict == GOOD
    assert "idle" not in judged(of_group(balancer={}))


def test_a_window_of_the_settings_that_does_not_fit() -> None:
    assert judged(drain=Drain(window_s=600))["window"].verdict == WARN
    assert "over 100 s" in judged(drain=Drain(window_s=100))["window"].found


def test_one_receiver_is_enough_for_least_outstanding_requests() -> None:
    facts = of_group(attributes={"load_balancing.algorithm.type": "least_outstanding_requests"})
    assert judged(facts, Drain(receivers=1))["routing"].verdict == GOOD


@pytest.mark.parametrize(
    ("facts", "untold"),
    [
        (replace(CALM, strategy=None), {"strategy", "window", "duration"}),
        (replace(CALM, stop_timeout_s=None), {"stop"}),
        (replace(CALM, groups=(replace(GROUP, attributes={}),)), {"window", "duration", "routing", "scale-in"}),
        (Facts(), set(judged())),
    ],
)
def test_nothing_is_said_of_what_could_not_be_read(facts: Facts, untold: set[str]) -> None:
    assert set(judged()) - set(judged(facts)) == untold


def test_the_page_shows_these_lines() -> None:
    """With the random numbers of the command."""
    page = (Path(__file__).parents[3] / "docs/how-to/run-on-ecs.md").read_text()
    for line in judge(CALM, Drain(), 45, 5, Random(0)):
        assert f"ok       {'deploy ' + line.name:<18} {line.found}\n" in page, line


def test_a_strategy_by_weights_is_played() -> None:
    bake = replace(CALM, strategy="CANARY", steps=(Step(0.05, 600), Step(1.0, 600)))
    found = judged(bake)["strategy"]
    assert found.verdict == "ok"
    assert "follow the weights in 20 min, 1.22 moves a device; 0% are left" in found.found
    assert judged(bake)["duration"].found == "about 27 min: the steps, the bake time and the delay, hooks apart"
    short = judged(replace(bake, steps=(Step(0.05, 600), Step(1.0, 30))))["strategy"]
    assert short.verdict == "warning"
    assert "bakeTimeInMinutes" in short.mend
    off = {line.name: line for line in judge(bake, Drain(follow_weights=False), 45, 5, Random(1))}
    assert "drain.follow_weights" in off["strategy"].mend
