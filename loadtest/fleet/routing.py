"""Chooses the target of a connect as a load balancer does. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from loadtest.scenario.deploy import RoutingAlgorithm


class Routing:
    """Targets are numbers. `first` is where the round of this process begins: processes must not go in step."""

    def __init__(self, algorithm: RoutingAlgorithm, first: int) -> None:
        self._algorithm = algorithm
        self._first = first
        self._turn = first
        self._current: list[int] = []
        self._weights: list[float] = []
        self._random = Random(first)
        self._open: Counter[int] = Counter()

    def aim(self, current: Sequence[int], weights: Sequence[float] = ()) -> None:
        """Set the targets of the next connects. With weights that differ, each connect is drawn by them."""
        self._current = list(current)
        self._weights = list(weights) if len(set(weights)) > 1 else []

    def choose(self, slot: int) -> int | None:
        """The target of the next connect of device `slot`, open until `left` is called; None: there is none."""
        current = self._current
        if not current:
            return None
        if self._weights:
            chosen = self._random.choices(current, self._weights)[0]
        elif self._algorithm == "fixed":
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
