"""Which target a connect goes to, as a load balancer chooses it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loadtest.scenario.deploy import RoutingAlgorithm


class Routing:
    """Targets are numbers. `first` is where this process begins its round: processes must not go in step."""

    def __init__(self, algorithm: RoutingAlgorithm, first: int) -> None:
        self._algorithm = algorithm
        self._first = first
        self._turn = first
        self._current: list[int] = []
        self._open: Counter[int] = Counter()

    def aim(self, current: Sequence[int]) -> None:
        """The targets that take connects from now on."""
        self._current = list(current)

    def choose(self, slot: int) -> int | None:
        """The target of the next connect of device `slot`; None: there is none. It is open until `left`."""
        current = self._current
        if not current:
            return None
        if self._algorithm == "fixed":
            chosen = current[(self._first + slot) % len(current)]
        else:
            self._turn += 1
            place = self._turn % len(current)
            chosen = current[place]
            if self._algorithm == "least_outstanding":
                # Of equals the next in turn, so that an idle group is filled evenly.
                chosen = min(current[place:] + current[:place], key=self._open.__getitem__)
        self._open[chosen] += 1
        return chosen

    def left(self, target: int) -> None:
        """A connection to this target, or the attempt at one, is over."""
        self._open[target] -= 1
