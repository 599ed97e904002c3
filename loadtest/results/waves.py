"""New connections during a deploy, by simulated second. Pure functions of what was recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from gateway.drain.weights import HALF
from gateway.settings.device_classes import PRESETS
from loadtest.fleet.sample import ClientModelCounts
from loadtest.results.records import GatewayDrain, StepRecord, Waved
from loadtest.scenario.client_models import CLIENT_MODELS
from loadtest.scenario.metrics import Values

# Connects and lost connections by simulated second, counted since the Unix epoch.
BinCounts = Mapping[int, Sequence[int]]
# How far the highest second may be above the even rate, and from the planned one, as fractions of these.
CALM = 0.3
PLANNED = 0.2
# Each device reconnects at a moment of its own: the count of a second is about Poisson distributed. One second in a
# thousand is more than three standard deviations above the mean; four are allowed where that matters.
DEVIATIONS = 4
FEW_PER_S = 40.0
# However seldom they come: of two a second or fewer, chance makes more than four deviations.
AT_ONCE = 5.0
# The highest second belongs to the sample that contains it, or to the one before.
NEAR_S = 2.0


class Wave(Struct, frozen=True):
    """One wave. Seconds and rates are simulated; `began_ms` and `ended_ms` are of the wall clock.

    `even_per_s` is its connections (of a step by weights: those that ended in its window) divided by its window,
    `peak_per_s` the highest number of new connections in one second, `ratio` the peak divided by the even rate,
    `limit_ratio` the peak divided by its limit: the even rate plus its slack. `plan_ratio` is the peak divided by the
    planned one, `plan_limit_ratio` its distance from the planned one divided by that one's slack; None: the gateways
    told no plan. For the slack see `slack_per_s`. `lost`: connections that ended in it, or before the next began;
    `step`: what it is in a deploy by weights, None: a wave of a rolling one.
    """

    number: int
    began_ms: int
    ended_ms: int
    connections: int
    window_s: float
    even_per_s: float
    peak_per_s: int
    peak_at_s: float
    ratio: float | None
    limit_ratio: float | None
    plan_peak_per_s: float | None
    plan_ratio: float | None
    plan_limit_ratio: float | None
    calls_per_s: float
    drains: list[GatewayDrain]
    lost: int = 0
    step: StepRecord | None = None


class Simulated(Struct, frozen=True):
    """Connects and lost connections in each simulated second, from `first` (counted since the epoch) on."""

    speed: float
    first: int
    connects: list[int]
    lost: list[int]

    def at_s(self, place: int) -> float:
        """The end of a simulated second, in real seconds since the epoch."""
        return (self.first + place + 1) / self.speed


def judge(told: Sequence[Waved], bins: BinCounts, end_ms: int | None) -> list[Wave]:
    """All waves. A wave also counts what devices do after it, until the next one begins; `end_ms` ends the last one."""
    ends = [*(later.began_ms for later in told[1:]), end_ms or 0][: len(told)]
    return [wave(one, bins, max(end, one.time_ms)) for one, end in zip(told, ends, strict=True)]


def wave(told: Waved, bins: BinCounts, end_ms: int) -> Wave:
    """Judge a wave by its simulated seconds, from its beginning to `end_ms`."""
    first, last = (int(moment_ms / 1000 * told.speed) for moment_ms in (told.began_ms, end_ms))
    # Its last second belongs to what comes next: another wave, or the end of the fleet.
    within = {second: bins[second] for second in range(first, max(last, first + 1)) if second in bins}
    peak_at, peak = max(((second, counts[0]) for second, counts in within.items()), key=_count, default=(first, 0))
    lost = sum(counts[1] for counts in within.values())
    # What comes between two steps is none of the first one's time.
    over = first + math.ceil(told.window_s) if told.step else last
    ended = sum(counts[1] for second, counts in within.items() if second < over)
    connections = ended if told.connections is None else told.connections
    even = connections / told.window_s if told.window_s else 0.0
    slack = _slack_of_step_per_s(told.step, even) if told.step else slack_per_s(even, CALM)
    planned = told.plan_peak_per_s
    return Wave(
        number=told.number,
        began_ms=told.began_ms,
        ended_ms=told.time_ms,
        connections=connections,
        window_s=told.window_s,
        even_per_s=even,
        peak_per_s=peak,
        peak_at_s=float(peak_at - first),
        ratio=peak / even if even else None,
        limit_ratio=peak / (even + slack) if even else None,
        plan_peak_per_s=planned,
        plan_ratio=peak / planned if planned else None,
        plan_limit_ratio=abs(peak - planned) / slack_per_s(planned, PLANNED) if planned else None,
        calls_per_s=told.calls_per_s,
        drains=told.drains,
        lost=lost,
        step=told.step,
    )


def slack_per_s(rate_per_s: float, fraction: float) -> float:
    """How far the highest second may be from a rate: a fraction of it, or, with few devices, what chance can do."""
    chance_per_s = max(DEVIATIONS * math.sqrt(rate_per_s), AT_ONCE - rate_per_s) if 0 < rate_per_s < FEW_PER_S else 0.0
    return max(fraction * rate_per_s, chance_per_s)


def _slack_of_step_per_s(step: StepRecord, rate_per_s: float) -> float:
    """As `slack_per_s`, but gateways that follow weights leave little to chance.

    Connections are whole: each may close one more in a second than its part, and one more ends by its age.
    """
    slack = slack_per_s(rate_per_s, CALM)
    follow = step.what == "step" and step.gateways
    return max(CALM * rate_per_s, min(slack, step.gateways + 1)) if follow else slack


def _count(found: tuple[int, int]) -> int:
    return found[1]


def simulated(speed: float, bins: BinCounts, begin_s: float, end_s: float) -> Simulated:
    """The seconds from one moment of the wall clock (s since the epoch) to another."""
    first, last = int(begin_s * speed), int(end_s * speed)
    rows = [bins.get(second, (0, 0)) for second in range(first, last + 1)]
    return Simulated(speed, first, [row[0] for row in rows], [row[1] for row in rows])


def figures(waves: Sequence[Wave], speed: float, gaps_ms: Values) -> Values:
    """The figures of a deploy, from its worst waves. `gaps_ms` are real milliseconds."""
    if not waves:
        return {}
    ratios = [one.ratio for one in waves if one.ratio is not None]
    limit_ratios = [one.limit_ratio for one in waves if one.limit_ratio is not None]
    plan_limit_ratios = [one.plan_limit_ratio for one in waves if one.plan_limit_ratio is not None]
    plans = [one.plan_ratio for one in waves if one.plan_ratio is not None]
    p50, p99 = gaps_ms.get("gap_p50_ms"), gaps_ms.get("gap_p99_ms")
    return {
        "connect_peak_per_s": max(one.peak_per_s for one in waves),
        "connect_even_per_s": max(one.even_per_s for one in waves),
        "connect_peak_ratio": max(ratios, default=None),
        "connect_peak_limit_ratio": max(limit_ratios, default=None),
        "plan_peak_limit_ratio": max(plan_limit_ratios, default=None),
        "plan_peak_ratio": max(plans, key=lambda ratio: abs(ratio - 1), default=None),
        "balancer_calls_per_s": max(one.calls_per_s for one in waves),
        "gap_p50_s": None if p50 is None else p50 / 1000 * speed,
        "gap_p99_s": None if p99 is None else p99 / 1000 * speed,
        **by_weights(waves),
    }


def by_weights(waves: Sequence[Wave]) -> Values:
    """The figures of a deploy by weights; none for a rolling one."""
    steps = [(one, one.step) for one in waves if one.step is not None]
    if not steps:
        return {}
    devices = max(step.on_old + step.on_new for _, step in steps)
    first = next((step for _, step in steps if step.what == "step"), None)
    clean_up = next((step for _, step in steps if step.what == "clean_up"), None)
    early = sum(one.lost for one, step in steps if step.what == "step" and step.weight < HALF)
    lost = {step.what: one.lost / devices for one, step in steps if devices}
    return {
        "canary_devices": None if first is None else first.on_new,
        "canary_hops": early / devices if devices else None,
        "hops": sum(one.lost for one, _ in steps) / devices if devices else None,
        "clean_up_ratio": None if clean_up is None or not devices else clean_up.on_old / devices,
        "rollback_late_ratio": lost.get("noticing"),
        "rollback_moved_ratio": lost.get("rollback"),
        "deployment_calls_per_s": max(step.deployment_calls_per_s for _, step in steps),
    }


def of_the_peak(judged: Sequence[Wave], speed: float, late_ms: Mapping[int, int], stolen_s: Mapping[int, float]) -> str:
    """When the highest second of the worst wave was, and whether this machine kept time then; "" without a wave.

    `late_ms` is the longest delay of a tick of the fleet, by the real second (since the epoch) of its sample;
    `stolen_s` is the processor time that the hypervisor gave to others. A fleet that stood still sees all at once what
    happened meanwhile.
    """
    worst = max(judged, key=lambda one: one.limit_ratio or 0.0, default=None)
    if worst is None:
        return ""
    at_s = (int(worst.began_ms / 1000 * speed) + worst.peak_at_s) / speed
    late = max((late for second, late in late_ms.items() if abs(second - at_s) <= NEAR_S), default=0)
    stolen = max((stolen for second, stolen in stolen_s.items() if abs(second - at_s) <= NEAR_S), default=None)
    when = f"wave {worst.number}, {worst.peak_at_s:g} s after it began"
    ticks = f"the fleet's own ticks came up to {late / 1000 * speed:.2g} simulated s ({late} ms) late"
    others = "" if stolen is None else f", and {stolen:.2g} s of processor time a second went to other machines"
    return f"{when}; {ticks} then{others}"


def abnormal(client_models: Mapping[str, ClientModelCounts]) -> int:
    """The number of closes 1006 that devices saw whose class takes close frames."""
    return sum(of.abnormal for name, of in client_models.items() if not _is_reset(name))


def _is_reset(name: str) -> bool:
    """Whether the gateway ends the connections of such devices without a close frame."""
    client_model = CLIENT_MODELS[name]
    by_agent = (one for one in PRESETS.values() if one.user_agents and one.user_agents in client_model.header)
    preset = PRESETS.get(client_model.device_class) or next(by_agent, None)
    return preset is not None and preset.close == "abort"


def merged(told: Sequence[Mapping[str, ClientModelCounts]]) -> dict[str, ClientModelCounts]:
    """The counts by client model, added up over fleet processes."""
    found: dict[str, ClientModelCounts] = {}
    for client_models in told:
        for name, of in client_models.items():
            known = found.get(name, ClientModelCounts())
            found[name] = ClientModelCounts(
                known.devices + of.devices,
                known.connected + of.connected,
                known.given_up + of.given_up,
                known.abnormal + of.abnormal,
            )
    return found
