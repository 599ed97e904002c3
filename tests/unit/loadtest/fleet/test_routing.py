"""Where a load balancer sends a connect."""

from __future__ import annotations

from collections import Counter

from loadtest.fleet.routing import Routing


def test_fixed_sends_a_device_to_the_same_target_each_time() -> None:
    subject = Routing("fixed", 10)
    subject.aim([4, 5, 6])
    assert [subject.choose(slot) for slot in (0, 1, 2, 0, 1, 2)] == [5, 6, 4, 5, 6, 4]


def test_round_robin_takes_turns_whatever_the_device() -> None:
    subject = Routing("round_robin", 0)
    subject.aim([7, 8])
    assert Counter(subject.choose(3) for _ in range(10)) == {7: 5, 8: 5}


def test_processes_begin_their_round_at_different_places() -> None:
    firsts = []
    for first in range(3):
        subject = Routing("round_robin", first)
        subject.aim([0, 1, 2])
        firsts.append(subject.choose(0))
    assert set(firsts) == {0, 1, 2}


def test_least_outstanding_fills_the_empty_target_first() -> None:
    subject = Routing("least_outstanding", 0)
    subject.aim([1, 2])
    for _ in range(6):
        subject.choose(0)
    subject.aim([1, 2, 3])
    assert [subject.choose(0) for _ in range(3)] == [3, 3, 3]
    assert Counter(subject.choose(0) for _ in range(3)) == {1: 1, 2: 1, 3: 1}


def test_least_outstanding_forgets_what_has_left() -> None:
    subject = Routing("least_outstanding", 0)
    subject.aim([1, 2])
    for _ in range(4):
        subject.choose(0)
    subject.left(2)
    assert subject.choose(0) == 2


def test_without_a_target_there_is_nowhere_to_go() -> None:
    subject = Routing("round_robin", 0)
    subject.aim([])
    assert subject.choose(0) is None
