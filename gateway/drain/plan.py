"""What a drain would look like: the pacer itself, played with the connections there are now. Pure."""

from __future__ import annotations

from collections import Counter
from random import Random

from msgspec import Struct

from gateway.drain.pacer import TICK_S, Pacer
from gateway.drain.window import spread_s


class Plan(Struct, frozen=True):
    """`connections` of one process, or of `tasks` that drain together, sent away over `window_s`.

    `peak_reconnects_per_s` is the highest second of new connections that the receivers see, chance included.
    `overrun` counts closes above `bound_per_s`, what the receivers take. `curve`: closes in each second of the window,
    in at most 600 steps of `step_s`.
    """

    connections: int
    tasks: int
    window_s: float
    even_rate_per_s: float
    bound_per_s: float
    peak_reconnects_per_s: int
    overrun: int
    step_s: float
    curve: list[int]


_MAX_STEPS = 600


def play(connections: int, tasks: int, window_s: float, bound_per_s: float, chance: Random) -> Plan:
    """Play a drain of `tasks` processes with `connections` each; `bound_per_s` is one's share of the receivers."""
    closes: Counter[int] = Counter()
    returns: Counter[int] = Counter()
    overrun = 0
    stay_away_s = spread_s(connections, window_s, bound_per_s)
    for _ in range(tasks):
        # Tasks do not tick in step.
        begin_s = chance.uniform(0, TICK_S)
        pacer, left, now_s = Pacer(begin_s, begin_s + window_s, chance.random()), connections, begin_s
        while left:
            now_s += TICK_S
            count = pacer.due(now_s, left, bound_per_s)
            pacer.closed(count)
            left -= count
            closes[int(now_s)] += count
            for place in range(count):
                returns[int(now_s + TICK_S * place / count + chance.uniform(0, stay_away_s))] += 1
        overrun += pacer.overrun
    step_s = max(1, -(-int(window_s) // _MAX_STEPS))
    curve: Counter[int] = Counter()
    for second, count in closes.items():
        curve[second // step_s] += count
    return Plan(
        connections=connections * tasks,
        tasks=tasks,
        window_s=round(window_s, 3),
        even_rate_per_s=round(connections * tasks / window_s, 3) if window_s else 0.0,
        bound_per_s=bound_per_s * tasks,
        peak_reconnects_per_s=max(returns.values(), default=0),
        overrun=overrun,
        step_s=float(step_s),
        curve=[curve[step] for step in range(max(curve, default=-1) + 1)],
    )
