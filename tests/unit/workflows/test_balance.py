"""Who manages what: decisions from made-up looks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.workflows.balance import Balance, Limits
from gateway.workflows.fleet import Dead, FleetSeen, Leader, ManagerSeen, Move, Orders, Reserve, Share
from gateway.workflows.lock_watch import LockWatch
from gateway.workflows.loop_time import LoopTime

LIMITS = Limits.of(30)
NONE = frozenset[int]()


def one(name: str, runs: int = 0, **more: Any) -> ManagerSeen:
    fields: dict[str, Any] = {"left_s": 25.0, "heard_s": 3.0, **more}
    return ManagerSeen(name, 1, runs=runs, **fields)


def decided(*managers: ManagerSeen, gone: frozenset[int] = NONE, now_s: float = 0.0) -> Orders:
    return Balance(LIMITS).decide(FleetSeen(managers), gone, now_s)


def test_a_quiet_fleet_is_left_alone() -> None:
    assert decided().empty
    assert decided(one("a", 5)).empty
    assert decided(one("a", 100), one("b", 90), one("c", 110)).empty
    # Of few runs one more is no skew.
    assert decided(one("a", 2), one("b", 1), one("c", 0)).empty


def test_the_runs_of_the_dead_go_to_those_that_have_the_fewest() -> None:
    orders = decided(one("dead", 10, left_s=-0.1), one("a", 5), one("b", 1), one("suspect", 0, heard_s=16))
    assert orders.dead == (Dead("dead", 1, False, (Share("a", 3), Share("b", 7))),)
    assert orders.moves == ()


def test_a_hint_is_enough_and_says_so() -> None:
    orders = decided(one("m", 2, lock_key=7), one("a"), gone=frozenset({7}))
    assert orders.dead == (Dead("m", 1, True, (Share("a", 2),)),)
    assert not decided(one("m", 2, lock_key=None), one("a"), gone=frozenset({7})).dead


def test_where_nobody_is_left_the_runs_are_anyones() -> None:
    assert decided(one("dead", 10, left_s=-1)).dead == (Dead("dead", 1, False, ()),)


def test_a_new_manager_is_filled_a_tenth_at_a_time() -> None:
    balance = Balance(LIMITS)
    fleet = FleetSeen((one("a", 100), one("b", 100), one("c", 0)))
    assert balance.decide(fleet, NONE, 0.0).moves == (Move("a", (Share("c", 20),), None, "skew"),)
    assert not balance.decide(fleet, NONE, 5.0).moves
    later = FleetSeen((one("a", 80), one("b", 100), one("c", 20)))
    assert balance.decide(later, NONE, 10.0).moves == (Move("b", (Share("c", 20),), None, "skew"),)


def test_skew_of_a_fifth_is_tolerated() -> None:
    assert not decided(one("a", 120), one("b", 80)).moves
    assert decided(one("a", 121), one("b", 79)).moves == (Move("a", (Share("b", 20),), None, "skew"),)


def test_neighbours_of_a_hog_leave_and_it_stays() -> None:
    hog = one("a", 10, hog_run="r")
    orders = decided(hog, one("b", 3))
    assert orders.reserved == (Reserve("a", 1, "r", LIMITS.spared_s),)
    assert orders.moves == (Move("a", (Share("b", 9),), "r", "hog"),)
    again = decided(hog._replace(reserved="r", runs=2), one("b", 12))
    assert not again.reserved
    assert again.moves == (Move("a", (Share("b", 1),), "r", "hog"),)
    assert not decided(hog._replace(reserved="r", runs=1), one("b", 12)).moves


def test_after_the_third_time_it_has_a_manager_for_good() -> None:
    assert decided(one("a", 1, hog_run="r", run_hogs=2), one("b")).reserved == (Reserve("a", 1, "r", None),)


def test_the_last_manager_is_reserved_for_nobody() -> None:
    assert decided(one("a", 9, hog_run="r")).empty
    assert decided(one("a", 9, hog_run="r"), one("b", 9, hog_run="s")).reserved == (
        Reserve("a", 1, "r", LIMITS.spared_s),
    )
    alone = decided(one("a", 1, reserved="r"), one("dead", 4, left_s=-1))
    assert alone.freed == ("a",)
    assert alone.dead[0].shares == (Share("a", 4),)


def test_who_does_not_let_go_is_forced_only_if_it_is_silent() -> None:
    late = {"leaving": 2, "leaving_s": 11.0}
    assert decided(one("a", 5, heard_s=11, **late), one("b", 5)).forced == ("a",)
    assert decided(one("a", 5, heard_s=3, **late), one("b", 5)).withdrawn == ("a",)
    assert decided(one("a", 5, leaving=2, leaving_s=9.0), one("b", 5)).empty


def test_runs_that_others_left_behind_are_found() -> None:
    assert Balance(LIMITS).decide(FleetSeen((one("a"),), left_behind=3), NONE, 0).sweep


MANAGERS = st.lists(
    st.tuples(
        st.integers(0, 300),
        st.sampled_from([-1.0, 20.0]),
        st.sampled_from([1.0, 20.0]),
        st.sampled_from([None, "hog"]),
        st.sampled_from([None, "hog"]),
        st.integers(0, 9),
    ),
    max_size=6,
)


@given(MANAGERS)
@settings(max_examples=300)
def test_orders_are_sane_whatever_is_seen(found: list[tuple[int, float, float, str | None, str | None, int]]) -> None:
    managers = [
        one(f"m{at}", runs, left_s=left, heard_s=heard, hog_run=hog, reserved=reserved, leaving=leaving)
        for at, (runs, left, heard, hog, reserved, leaving) in enumerate(found)
    ]
    orders = decided(*managers)
    by_name = {manager.id: manager for manager in managers}
    dead = {order.manager for order in orders.dead}
    assert dead == {manager.id for manager in managers if manager.left_s < 0}
    taken = {order.manager for order in orders.reserved} | {
        manager.id for manager in managers if manager.reserved and manager.id not in orders.freed
    }
    moved: list[Dead | Move] = [*orders.dead, *orders.moves]
    for order in moved:
        have = by_name[order.manager].runs + (by_name[order.manager].leaving if order.manager in dead else 0)
        assert sum(share.runs for share in order.shares) <= have
        for share in order.shares:
            assert share.runs > 0
            assert share.manager != order.manager
            assert share.manager not in dead | taken
            assert by_name[share.manager].heard_s < LIMITS.suspect_s
    well = [manager for manager in managers if manager.id not in dead and manager.heard_s < LIMITS.suspect_s]
    assert not well or {manager.id for manager in well} - taken


@given(st.lists(st.integers(0, 400), min_size=2, max_size=8))
@settings(max_examples=100)
def test_moves_come_to_an_end_and_never_go_back(counts: list[int]) -> None:
    """KAFKA-12495: one that joins while others give up their work set off rebalance after rebalance."""
    balance, runs = Balance(LIMITS), {f"m{at}": count for at, count in enumerate(counts)}
    gave, got = set[str](), set[str]()
    for turn in range(200):
        seen = FleetSeen(tuple(one(name, count) for name, count in runs.items()))
        for move in balance.decide(seen, NONE, 10.0 * turn).moves:
            gave.add(move.manager)
            for share in move.shares:
                got.add(share.manager)
                runs[move.manager] -= share.runs
                runs[share.manager] += share.runs
    assert balance.decide(FleetSeen(tuple(one(name, count) for name, count in runs.items())), NONE, 1e6).empty
    assert not gave & got
    mean = sum(counts) / len(counts)
    assert max(runs.values()) <= mean + max(1.0, 0.2 * mean)


# Locks


def look(watch: LockWatch, now_s: float, *held: int, server: str = "1", keys: tuple[int, ...] = (1, 2, 3)) -> set[int]:
    managers = tuple(one(f"m{key}", lock_key=key) for key in keys)
    return set(watch.look(FleetSeen(managers, None, frozenset(held), server), now_s))


def test_a_lock_that_is_gone_twice_has_no_holder() -> None:
    watch = LockWatch(30)
    assert look(watch, 0, 1, 2, 3) == set()
    assert look(watch, 1, 1, 3) == set()
    assert look(watch, 2, 1, 3) == {2}
    assert look(watch, 3, 1, 2, 3) == set()


def test_a_lock_that_was_never_there_says_nothing() -> None:
    watch = LockWatch(30)
    for now_s in range(5):
        assert look(watch, now_s, 1, 3) == set()


@pytest.mark.parametrize("restarted", [True, False])
def test_after_a_restart_or_when_several_vanish_hints_are_ignored(restarted: bool) -> None:
    watch = LockWatch(30)
    look(watch, 0, 1, 2, 3)
    held, server = ((1, 3), "2") if restarted else ((1,), "1")
    for now_s in (1, 2, 3, 29):
        assert look(watch, now_s, *held, server=server) == set()
    look(watch, 32, 1, 2, 3, server=server)
    look(watch, 33, 2, 3, server=server)
    assert look(watch, 34, 2, 3, server=server) == {1}


def test_the_lock_of_who_leads_is_watched_too() -> None:
    watch = LockWatch(30)
    leader = Leader("x", 1, 9.0, 9)
    assert not watch.look(FleetSeen((), leader, frozenset({9}), "1"), 0)
    assert not watch.look(FleetSeen((), leader, frozenset(), "1"), 1)
    assert watch.look(FleetSeen((), leader, frozenset(), "1"), 2) == {9}
    assert not watch.look(FleetSeen((), leader, None, "1"), 3)


# Loop time


def test_a_run_that_takes_much_of_the_time_for_long_is_a_hog() -> None:
    time = LoopTime(60)
    seen = [now_s for now_s in range(200) if time.spent("hog", 0.75, now_s) or time.spent("other", 0.1, now_s)]
    assert seen == [79, 159]
    assert time.hogs == 2
    assert time.hog(200) == "hog"
    assert time.hog(219) is None


def test_a_run_that_is_always_there_and_takes_little_is_none() -> None:
    time = LoopTime(60)
    assert not any(time.spent("steady", 0.15, now_s) for now_s in range(2_000))
    assert time.hog(2_000) is None


def test_what_was_long_ago_does_not_count() -> None:
    time = LoopTime(60)
    assert not time.spent("a", 50, 0)
    assert not time.spent("a", 50, 500)
    assert time.spent("a", 10, 530)


def test_a_third_of_the_time_is_enough() -> None:
    time = LoopTime(60)
    assert next(now_s for now_s in range(0, 900, 3) if time.spent("a", 1, now_s)) < 300
