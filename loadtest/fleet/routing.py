"""Chooses the target of a connect as a load balancer does. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loadtest.scenario.deploy import RoutingAlgorithm


class Routing:
    """Targets are numbers. `first` is where the round of this process begins: processes must not go in step."""

    def __init__(self, algorithm: RoutingAlgorithm, first: int) -> None:
        self._algorithm = algorithm
        self._first = first
        self._turn = first
        self._current: list[int] = []
        self._open: Counter[int] = Counter()

    def aim(self, current: Sequence[int]) -> None:
        """Set the targets of the next connects."""
        self._current = list(current)

    def choose(self, slot: int) -> int | None:
        """The target of the next connect of device `slot`, open until `left` is called; None: there is none."""
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
                # Among equals the next in turn, so that an idle group fills evenly.
                chosen = min(current[place:] + current[:place], key=self._open.__getitem__)
        self._open[chosen] += 1
        return chosen

    def left(self, target: int) -> None:
        """A connection to this target, or an attempt at one, is over."""
        self._open[target] -= 1
