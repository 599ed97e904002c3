"""What a deployment by weights would do to the connections: the shift itself, played on averages. Pure."""

from __future__ import annotations

import re
from itertools import pairwise

from msgspec import Struct

from gateway.drain.deployment import MINUTE_S, Deployment, Revision, Step, Strategy, steps
from gateway.drain.weights import Shift
from gateway.errors import QueryError

# Of a day and a half: six hours a step, at the default ages.
_PARTS = 6
# Of a play; rates change with the steps, minutes apart. A long deployment is played in as many longer ticks.
_TICK_S = 1.0
_TICKS = 50_000
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
BALANCER = "balancer"
_PERCENT = r"[0-9]+(\.[0-9])?%"
# A regular expression of JSON Schema (ECMA-262) for what `parse` takes, and `balancer`; bounds apart.
PATTERN = (
    rf"(linear|canary)(:{_PERCENT}(:{_SPAN.pattern}(:{_SPAN.pattern})?)?)?|blue-green(:{_SPAN.pattern})?|{BALANCER}"
)
_WORDS = {"linear": Strategy.LINEAR, "canary": Strategy.CANARY, "blue-green": Strategy.BLUE_GREEN}
FORM = (
    "linear:10%:6m, canary:5%:10m or blue-green, each with the bake time after it, such as linear:10%:6m:10m; or "
    "balancer"
)
BAKE_S = 600.0
# API reference, LinearConfiguration and CanaryConfiguration: "multiples of 0.1 from …".
_LEAST_PERCENT = {Strategy.LINEAR: 3.0, Strategy.CANARY: 0.1}


class StrategyStep(Struct, frozen=True):
    """One step: the weight of the new revision, how long, and what follows from both; rates are averages.

    `on_new`: connections of the new revision at its end. `receiver_per_s`: handshakes a second of its busiest task.
    """

    weight: float
    minutes: float
    closes: int
    closes_per_s: float
    on_new: int
    receiver_per_s: float


class StrategyPlan(Struct, frozen=True):
    """A whole deployment. `hops`: closes a device, with those of the clean-up. `left`: what the clean-up finds.

    `minutes`: as long as ECS waits, hooks apart. `unfollowed`: connections of the new revision at the end of the first
    step when nobody is sent away. `lag_s`: how late a weight may be noticed.
    """

    strategy: str
    connections: int
    tasks: int
    budget: int
    hops: float
    left: int
    minutes: float
    unfollowed: int
    lag_s: float
    receiver_per_s: float
    steps: list[StrategyStep]


def by_age(connections: int, tasks: int, receivers: int, ages_s: tuple[float, float]) -> StrategyPlan:
    """Another load balancer takes all new connections, and those of the old one come by their age alone.

    Of connections of all ages, P(age > t) ÷ mean end at t: evenly up to the lowest age, then fewer, none after the
    highest. Each step is a sixth of that time.
    """
    low_s, high_s = ages_s
    mean_s, part_s = (low_s + high_s) / 2, high_s / _PARTS
    whole = connections * tasks
    gone = [whole * _moved(part_s * number, low_s, high_s) / mean_s for number in range(_PARTS + 1)]
    found = []
    for before, after in pairwise(gone):
        rate = (after - before) / part_s if part_s else 0.0
        step = StrategyStep(
            1.0, part_s / MINUTE_S, round(after - before), round(rate, 3), round(after), round(rate / receivers, 3)
        )
        found.append(step)
    return StrategyPlan(
        strategy=BALANCER.upper(),
        connections=whole,
        tasks=tasks,
        budget=whole,
        hops=1.0,
        left=0,
        minutes=high_s / MINUTE_S,
        unfollowed=found[0].on_new,
        lag_s=0.0,
        receiver_per_s=max(step.receiver_per_s for step in found),
        steps=found,
    )


def _moved(until_s: float, low_s: float, high_s: float) -> float:
    """The integral of P(age > t) from 0 on, with ages drawn evenly from low to high."""
    above_s = max(0.0, until_s - low_s)
    spread_s = high_s - low_s
    return until_s - (above_s**2 / (2 * spread_s) if spread_s else above_s)


def parse(text: str) -> tuple[Strategy, tuple[Step, ...]]:
    """`linear:10%:6m`, `canary:5%:10m`, `blue-green`, with the bake time as one more part. Raises QueryError."""
    word, *parts = text.strip().lower().split(":")
    strategy = _WORDS.get(word)
    if strategy is None:
        raise QueryError("strategy", f"{text!r} is not a strategy; write {FORM}")
    percent = lasts_s = None
    if strategy is not Strategy.BLUE_GREEN and parts:
        percent = _percent(parts.pop(0), text, _LEAST_PERCENT[strategy])
        lasts_s = _span_s(parts.pop(0), text) if parts else None
    bake_s = _span_s(parts.pop(0), text) if parts else BAKE_S
    if parts:
        raise QueryError("strategy", f"{text!r} has more parts than are known; write {FORM}")
    return strategy, steps(strategy, bake_s, percent, lasts_s)


def _percent(part: str, text: str, least: float) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9])?)%", part)
    if found is None or not least <= float(found[1]) <= 100:
        raise QueryError("strategy", f"{part!r} in {text!r} is not a percentage from {least:g}% to 100%; write {FORM}")
    return float(found[1])


def _span_s(part: str, text: str) -> float:
    found = _SPAN.fullmatch(part)
    span_s = float(found[1]) * _UNITS_S[found[2]] if found else -1.0
    if not 0 <= span_s <= 86_400:
        raise QueryError("strategy", f"{part!r} in {text!r} is not a time up to 24h, such as 6m; write {FORM}")
    return span_s


def play(
    strategy: Strategy,
    of: tuple[Step, ...],
    connections: int,
    tasks: int,
    receivers: int,
    hops: float,
    lag_s: float,
    age_s: float,
) -> StrategyPlan:
    """Play a deployment of `tasks` with `connections` each to as many `receivers`; a connection lives `age_s`.

    `lag_s`: each weight is noticed so much later. Takes milliseconds an hour of deployment.
    """
    played = _Play(strategy, of, float(connections), hops, lag_s, age_s)
    found: list[StrategyStep] = []
    for place, step in enumerate(of):
        closes = played.step(place)
        new = (connections - played.old) * tasks
        rate = closes * tasks / step.lasts_s if step.lasts_s else 0.0
        busiest = max(step.weight * rate / max(1, receivers), (1 - step.weight) * rate / tasks)
        found.append(
            StrategyStep(
                step.weight,
                step.lasts_s / MINUTE_S,
                round(closes * tasks),
                round(rate, 3),
                round(new),
                round(busiest, 3),
            )
        )
    without = connections * tasks * of[0].weight * min(1.0, of[0].lasts_s / age_s) if of else 0.0
    spent = sum(step.closes for step in found)
    left = round(played.old * tasks)
    return StrategyPlan(
        strategy=strategy.value,
        connections=connections * tasks,
        tasks=tasks,
        budget=played.shift.budget * tasks,
        hops=round((spent + left) / max(1, connections * tasks), 3),
        left=left,
        minutes=sum(step.lasts_s for step in of) / MINUTE_S,
        unfollowed=round(without),
        lag_s=lag_s,
        receiver_per_s=max((step.receiver_per_s for step in found), default=0.0),
        steps=found,
    )


class _Play:
    """One old task; as all old ones do the same, what comes back to old tasks comes back to this one."""

    def __init__(
        self, strategy: Strategy, of: tuple[Step, ...], connections: float, hops: float, lag_s: float, age_s: float
    ) -> None:
        self.old = connections
        self._strategy = strategy
        self._steps = of
        self._lag_s = lag_s
        self._age_s = age_s
        self._now_s = 0.0
        self._owed = 0.0
        self._tick_s = max(_TICK_S, sum(step.lasts_s for step in of) / _TICKS)
        self.shift = Shift(self._seen(-1), round(connections), hops)

    def step(self, place: int) -> float:
        """Play one step; returns its closes."""
        step, shift = self._steps[place], self.shift
        end_s, seen_s, closes = self._now_s + step.lasts_s, self._now_s + self._lag_s, 0.0
        while self._now_s < end_s:
            if self._now_s >= min(seen_s, end_s - self._tick_s):
                shift.learn(self._seen(place), round(self.old), seen_s - self._lag_s, self._now_s)
                seen_s = float("inf")
            tick_s = min(self._tick_s, end_s - self._now_s)
            close = min(self.old, shift.rate_per_s(self._now_s, round(self.old)) * tick_s)
            closes += close
            self._owed += close
            shift.closed(int(self._owed))
            self._owed -= int(self._owed)
            # Those that end by themselves follow the weight, too.
            self.old -= (close + self.old * tick_s / self._age_s) * step.weight
            self._now_s += tick_s
        return closes

    def _seen(self, place: int) -> Deployment:
        weight = self._steps[place].weight if place >= 0 else 0.0
        last = place == len(self._steps) - 1
        return Deployment(
            "plan",
            self._strategy,
            Revision("new", weight),
            steps=self._steps,
            stage="BAKE_TIME" if last else "PRODUCTION_TRAFFIC_SHIFT",
        )
