"""What the next deploy will do to the connections, by how the service and its load balancer are set. Pure.

Amazon ECS developer guide, "Amazon ECS service deployment strategies"; Elastic Load Balancing user guide, "Target group
attributes" and "Application Load Balancer attributes".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple

from msgspec import Struct, field

from gateway.drain import window
from gateway.drain.deployment import Step, Strategy
from gateway.drain.plan import play
from gateway.drain.polling import deployment_period_s, period_s
from gateway.drain.strategy_plan import play as foresee
from gateway.errors import CallError
from gateway.settings.model import Drain

GOOD, WARN, BAD = "ok", "warning", "wrong"
# What one process may hold on a small task; only the rates that follow from it are told.
REHEARSED = 10_000
# ECS starts a task, and two health checks pass, before the first old one goes.
START_MINUTES = 2.0
ROLLING = "ROLLING"
DELAY = "deregistration_delay.timeout_seconds"
ROUTING = "load_balancing.algorithm.type"
LONGEST_STOP_S = 120.0
SHORT_DELAY_S = 60.0
# What the clean-up should find at most, and how old connections become (connections.max_age_h).
MANY_LEFT = 0.1
MEAN_AGE_S = 30 * 3600.0
LONG_DELAY_S = 900.0


class GroupFacts(Struct, frozen=True):
    """Attributes and health check of a target group, in the API's words; "": not told."""

    name: str
    attributes: Mapping[str, str] = {}
    health_path: str = ""
    matcher: str = ""
    balancer: Mapping[str, str] = {}


class Facts(Struct, frozen=True):
    """What could be read. `strategy` None: nothing of the service; `stop_timeout_s` None: nothing of the task.

    `scale_in_cooldown_s`: the shortest of its target-tracking policies; None: it has none, or they could not be read.
    `unread`: why something is missing.
    """

    strategy: str | None = None
    maximum_percent: int = 200
    minimum_healthy_percent: int = 100
    circuit_breaker: bool = False
    deferred: bool = False
    steps: tuple[Step, ...] = ()
    desired: int = 1
    stop_timeout_s: float | None = None
    groups: tuple[GroupFacts, ...] = ()
    scales: bool = False
    scale_in_cooldown_s: float | None = None
    unread: list[CallError] = field(default_factory=list)


class Judgement(NamedTuple):
    """One line: `verdict` is ok, warning or wrong; `mend` "": nothing to do."""

    name: str
    verdict: str
    found: str
    mend: str = ""


def judge(
    facts: Facts, drain: Drain, heartbeat_s: float, close_timeout_s: float, chance: Random
) -> Iterator[Judgement]:
    """Line by line, what happens and what to mend. Nothing is said of what rests on facts that could not be read."""
    delay_s = min((float(group.attributes[DELAY]) for group in facts.groups if DELAY in group.attributes), default=None)
    strategy = facts.strategy
    if strategy is not None:
        waves = _waves(facts)
        yield _strategy(strategy, facts, waves, drain)
        if delay_s is not None:
            yield _window(facts, drain, delay_s, waves, close_timeout_s, chance)
            yield _waiting(facts, delay_s, waves)
    if facts.stop_timeout_s is not None:
        yield _stop(facts.stop_timeout_s)
    for group in facts.groups:
        yield from _group(group, drain, heartbeat_s)
    if facts.scales and delay_s is not None:
        yield _scale_in(facts, delay_s)


def _waves(facts: Facts) -> int:
    """In how many groups the tasks are replaced: as many new ones at a time as the percents leave room for."""
    if facts.strategy != ROLLING:
        return 1
    room = math.floor(facts.desired * facts.maximum_percent / 100) - facts.desired
    room += facts.desired - math.ceil(facts.desired * facts.minimum_healthy_percent / 100)
    return math.ceil(facts.desired / max(1, room))


def _strategy(strategy: str, facts: Facts, waves: int, drain: Drain) -> Judgement:
    if strategy != ROLLING and drain.follow_weights and facts.steps:
        return _by_weights(strategy, facts, drain)
    if strategy != ROLLING:
        found = (
            f"{strategy}: a weight moves new connections only; websockets stay on the old tasks until these are "
            "cleaned up, and then all go at once, within the deregistration delay"
        )
        mend = "set drain.follow_weights, or use ROLLING: else expect the whole fleet in that one delay"
        return Judgement("strategy", WARN, found, mend)
    hops = (1 + 1 / waves) ** waves - 1
    found = f"ROLLING, {facts.minimum_healthy_percent} to {facts.maximum_percent} %: {waves} wave{'s'[: waves - 1]}"
    found += f", {hops:.2f} moves a device"
    if waves > 1:
        return Judgement("strategy", WARN, found, "set maximumPercent to 200: then all move once")
    if not facts.circuit_breaker:
        mend = "switch the deployment circuit breaker with rollback on"
        return Judgement("strategy", WARN, f"{found}; one that fails tries on for ever", mend)
    return Judgement("strategy", GOOD, f"{found}; one that fails is rolled back")


def _by_weights(strategy: str, facts: Facts, drain: Drain) -> Judgement:
    lag_s = deployment_period_s(2 * facts.desired)
    receivers = drain.receivers or facts.desired
    plan = foresee(
        Strategy(strategy), facts.steps, REHEARSED, facts.desired, receivers, drain.shift_hops, lag_s, MEAN_AGE_S
    )
    bake_s = facts.steps[-1].lasts_s
    left = plan.left / plan.connections
    found = (
        f"{strategy}: connections follow the weights in {plan.minutes:.0f} min, {plan.hops:.2f} moves a device; "
        f"{left:.0%} are left for the clean-up; weights are noticed up to {lag_s:.0f} s late"
    )
    if bake_s < 2 * lag_s or left > MANY_LEFT:
        mend = f"set bakeTimeInMinutes to 10 or more: most connections move in the last step, which has {bake_s:.0f} s"
        return Judgement("strategy", WARN, found, mend)
    return Judgement("strategy", GOOD, found)


def _window(
    facts: Facts, drain: Drain, delay_s: float, waves: int, close_timeout_s: float, chance: Random
) -> Judgement:
    margin_s = window.margin_s(drain.margin_s, close_timeout_s)
    polled_s = period_s(2 * facts.desired, max(1, len(facts.groups)))
    longest_s = window.longest_s(delay_s, margin_s, polled_s)
    over_s = window.window_s(drain.window_s, longest_s)
    receivers = drain.receivers or facts.desired
    leaving = max(1, math.ceil(facts.desired / waves))
    bound_per_s = receivers * drain.receiver_handshakes_per_s / leaving or math.inf
    peak = play(REHEARSED, 1, over_s, bound_per_s, chance).peak_reconnects_per_s
    found = f"{REHEARSED:,} devices of a task leave over {over_s:.0f} s, at most {peak} of them in a second"
    if delay_s < SHORT_DELAY_S:
        mend = "set deregistration_delay.timeout_seconds to 300 or more: the drain has to fit into it"
        return Judgement("window", WARN, found, mend)
    if drain.window_s > longest_s:
        mend = f"drain.window_s is {drain.window_s:g}: more does not fit the delay of {delay_s:g} s"
        return Judgement("window", WARN, found, mend)
    return Judgement("window", GOOD, found)


def _waiting(facts: Facts, delay_s: float, waves: int) -> Judgement:
    minutes = waves * (START_MINUTES + delay_s / 60)
    if facts.steps:
        steps_s = sum(step.lasts_s for step in facts.steps)
        found = f"about {minutes + steps_s / 60:.0f} min: the steps, the bake time and the delay, hooks apart"
    elif facts.deferred:
        found = f"done after about {START_MINUTES:g} min; old tasks drain for {delay_s / 60:g} min more"
    else:
        found = f"about {minutes:.0f} min, the whole delay in each of {waves} wave{'s'[: waves - 1]}"
    if delay_s > LONG_DELAY_S or (waves > 1 and not facts.deferred):
        return Judgement("duration", WARN, found, "a delay of 300 to 900 s and one wave are enough")
    return Judgement("duration", GOOD, found)


def _stop(stop_s: float) -> Judgement:
    over_s = window.stop_window_s(REHEARSED, stop_s, registered=True)
    found = f"stop time-out {stop_s:g} s: StopTask and Spot leave {over_s:g} s for all devices of a task"
    if stop_s < LONGEST_STOP_S:
        return Judgement("stop", WARN, found, "set stopTimeout to 120, the maximum on Fargate")
    return Judgement("stop", GOOD, found)


def _group(group: GroupFacts, drain: Drain, heartbeat_s: float) -> Iterator[Judgement]:
    if ROUTING in group.attributes:
        yield _routing(group, drain)
    if group.health_path:
        yield _health(group)
    idle = group.balancer.get("idle_timeout.timeout_seconds")
    if idle is not None:
        late = float(idle) <= heartbeat_s
        found = f"idle time-out {idle} s, a ping each {heartbeat_s:g} s of silence"
        mend = f"set idle_timeout.timeout_seconds above {2 * heartbeat_s:g}" if late else ""
        yield Judgement("idle", BAD if late else GOOD, found, mend)


def _routing(group: GroupFacts, drain: Drain) -> Judgement:
    law = group.attributes[ROUTING]
    sticky = group.attributes.get("stickiness.enabled") == "true"
    found = f"{group.name}: {law}{', sticky' if sticky else ''}"
    if sticky:
        return Judgement("routing", WARN, found, "switch stickiness off: devices come back to tasks that leave")
    if law == "least_outstanding_requests" and drain.receivers != 1:
        mend = "set round_robin, or drain.receivers = 1: else one new task gets all who leave"
        return Judgement("routing", WARN, found, mend)
    return Judgement("routing", GOOD, found)


def _health(group: GroupFacts) -> Judgement:
    found = f"{group.name}: {group.health_path} is {group.matcher or 'any'}"
    if group.health_path == "/livez" and group.matcher in ("", "200"):
        return Judgement("health", GOOD, found)
    if group.health_path == "/readyz":
        mend = "use /livez: a drain that a person begins makes /readyz fail, and ECS replaces the task"
        return Judgement("health", WARN, found, mend)
    return Judgement("health", WARN, found, "use /livez with the matcher 200")


def _scale_in(facts: Facts, delay_s: float) -> Judgement:
    minimum_s = delay_s + LONGEST_STOP_S
    if facts.scale_in_cooldown_s is None:
        return Judgement("scale-in", WARN, "policies without target tracking", "let scale-in wait longer than a drain")
    found = f"a task at most each {facts.scale_in_cooldown_s:g} s; one that goes drains for {delay_s:g} s"
    if facts.scale_in_cooldown_s < minimum_s:
        return Judgement("scale-in", WARN, found, f"set ScaleInCooldown to {minimum_s:g} or more")
    return Judgement("scale-in", GOOD, found)
