"""The intended moments of connects and events: open-loop arrivals. Pure.

A load that waits for answers slows down together with the server, and hides what its users would have seen (coordinated
omission). So the moments do not depend on any answer, and latency counts from them. The same seed gives the same
moments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, repeat
from random import Random
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

MORNING_H = 8.0
EVENING_H = 18.0
# A Gaussian of this width has 82 % of a peak within an hour of it: 7 to 9 h and 17 to 19 h.
PEAK_WIDTH_H = 0.75

Positive = Annotated[float, Meta(gt=0, le=1e9)]


class Arrival(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A law of arrivals. Rates are per second.

    | kind | moments |
    | --- | --- |
    | `at_once` | all at the start |
    | `constant` | evenly, `rate_per_s` |
    | `poisson` | independent of each other, with the mean rate `rate_per_s` |
    | `ramp` | evenly; the rate goes from `from_per_s` to `rate_per_s` within `over_s` and then stays |
    | `daily` | Poisson at `daily_rate`; `rate_per_s` is the mean of a day of `day_s` that begins at `start_h` |
    | `periodic` | for events only: each device once in `period_s`, the devices spread over it |

    Events without a `rate_per_s` have the rate `devices / period_s`, and `constant` is then the same as `periodic`;
    with `period_s` 0 there are no events.
    """

    kind: Literal["at_once", "constant", "poisson", "ramp", "daily", "periodic"] = "constant"
    rate_per_s: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    from_per_s: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    over_s: Positive = 60.0
    day_s: Positive = 86_400.0
    start_h: Annotated[float, Meta(ge=0, lt=24)] = 0.0
    peak: Annotated[float, Meta(ge=1, le=1000)] = 5.0
    period_s: Annotated[float, Meta(ge=0, le=1e9)] = 60.0

    def of_events(self, devices: int) -> Arrival | None:
        """The law for the events of this number of devices, with its rate filled in; None: no events."""
        if self.kind == "periodic" or not self.rate_per_s:
            if not self.period_s:
                return None
            kind = "periodic" if self.kind == "constant" else self.kind
            return replace(self, kind=kind, rate_per_s=devices / self.period_s)
        return self

    def problem(self, events: bool) -> str | None:
        """Which fields do not fit each other, with a path; None: all fit. `events`: of events, else of connects."""
        if events:
            if self.kind == "at_once":
                return "at_once is for connects; use periodic or constant - at `$.events.kind`"
            return None
        if self.kind == "periodic":
            return "periodic is for events; use constant or poisson with rate_per_s - at `$.connect.kind`"
        if self.kind != "at_once" and not self.rate_per_s:
            return f"{self.kind} needs rate_per_s above 0 - at `$.connect.rate_per_s`"
        return None


def moments(arrival: Arrival, random: Random) -> Iterator[float]:
    """Ascending seconds from the start, without end (except a ramp down to 0). Needs a rate; not for `periodic`."""
    rate = arrival.rate_per_s
    if arrival.kind == "at_once":
        return repeat(0.0)
    if arrival.kind == "constant":
        # A random phase: processes with the same rate must not act in step.
        shift = random.random()
        return ((number + shift) / rate for number in count())
    if arrival.kind == "poisson":
        return _poisson(rate, random)
    if arrival.kind == "ramp":
        return _ramp(arrival.from_per_s, rate, arrival.over_s, random.random())
    if arrival.kind == "daily":
        return _daily(arrival, random)
    raise ValueError(f"{arrival.kind} has no moments of its own")


def daily_rate(arrival: Arrival, since_s: float) -> float:
    """Arrivals a second at `since_s` from the start.

    With h the hour of the (scaled) day and b(x) = exp(-(x / 0.75 h)² / 2), the distance going round midnight:
    rate = mean · (1 + (peak - 1) · (b(h - 8) + b(h - 18))) / (1 + (peak - 1) · 2 · 0.75 · √(2π) / 24),
    so `peak` is the height of a peak divided by that of the quiet hours, and the mean over a day is `rate_per_s`.
    """
    hour = (arrival.start_h + since_s / arrival.day_s * 24) % 24
    return arrival.rate_per_s * _shape(hour, arrival.peak) / _mean_shape(arrival.peak)


def _shape(hour: float, peak: float) -> float:
    bumps = 0.0
    for centre in (MORNING_H, EVENING_H):
        distance = abs(hour - centre)
        distance = min(distance, 24 - distance)
        bumps += math.exp(-((distance / PEAK_WIDTH_H) ** 2) / 2)
    return 1 + (peak - 1) * bumps


def _mean_shape(peak: float) -> float:
    return 1 + (peak - 1) * 2 * PEAK_WIDTH_H * math.sqrt(2 * math.pi) / 24


def _poisson(rate: float, random: Random) -> Iterator[float]:
    now_s = 0.0
    while True:
        now_s += random.expovariate(rate)
        yield now_s


def _daily(arrival: Arrival, random: Random) -> Iterator[float]:
    """By thinning (Lewis and Shedler, 1979): draw a Poisson process at the highest rate, and keep each moment with the
    probability of its own rate divided by the highest one."""
    highest = arrival.rate_per_s * _shape(MORNING_H, arrival.peak) / _mean_shape(arrival.peak)
    for now_s in _poisson(highest, random):
        if random.random() * highest < daily_rate(arrival, now_s):
            yield now_s


def _ramp(first: float, last: float, over_s: float, shift: float) -> Iterator[float]:
    """The moments at which the integral of the rate passes 0, 1, 2 … (+ `shift`)."""
    within = (first + last) / 2 * over_s
    slope = (last - first) / over_s
    for number in count():
        target = number + shift
        if target <= within:
            # first·t + slope·t²/2 = target, in the form that is stable for a small slope.
            root = math.sqrt(max(0.0, first * first + 2 * slope * target))
            yield min(over_s, 2 * target / (first + root)) if first + root > 0 else 0.0
        elif last > 0:
            yield over_s + (target - within) / last
        else:
            return
