"""Connects go by weights, as a rule of a load balancer sends them."""

from __future__ import annotations

from collections import Counter

from loadtest.fleet.routing import Routing


def test_each_connect_is_drawn_by_the_weights() -> None:
    routing = Routing("round_robin", 7)
    routing.aim([0, 1, 2], [0.475, 0.475, 0.05])
    found = Counter(routing.choose(slot) for slot in range(10_000))
    assert 400 <= found[2] <= 600
    assert abs(found[0] - found[1]) < 500


def test_equal_weights_go_round() -> None:
    routing = Routing("round_robin", 0)
    routing.aim([0, 1], [0.5, 0.5])
    assert Counter(routing.choose(slot) for slot in range(100)) == {0: 50, 1: 50}
    routing.aim([1], [1.0])
    assert routing.choose(0) == 1
