"""Who manages what, decided from one look at all managers.

Rule 1. A manager whose lease has run out is dead, and so is one whose process has died: its fence goes up, and its runs
are offered to those that have the fewest.
Rule 2. A run that takes too much of its manager's time (a hog) keeps it, and the others leave: for a while at first,
and for good once it has done so three times.
Rule 3. Runs move for balance only if the fullest manager has a fifth more than the mean, and a tenth of all runs at
most in ten seconds.
Rule 4. A run leaves when its manager lets go of it. One that gives no sign of life any more is not waited for; of one
that does, the offer is taken back, for what its runs are doing cannot move.
Rule 5. Nothing is offered to a manager that is suspect, or has a run for itself.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from gateway.workflows.fleet import Dead, FleetSeen, ManagerSeen, Move, Orders, Reserve, Share

SKEW = 0.2
MOVED_SHARE = 0.1
HOGS_FOR_GOOD = 3


class Limits(NamedTuple):
    """A manager that was not heard of for `suspect_s` gets nothing; an offer is waited for `patience_s`; a tenth of the
    runs moves in `window_s`; a hog's manager is spared for `spared_s`; a look is taken each `look_s`."""

    suspect_s: float
    patience_s: float
    window_s: float
    spared_s: float
    look_s: float

    @classmethod
    def of(cls, lease_s: float) -> Limits:
        """For leases of 30 s: suspect at 15, patience of 10."""
        return cls(lease_s / 2, lease_s / 3, lease_s / 3, 4 * lease_s, min(1.0, lease_s / 6))


class Balance:
    """Remembers only how many runs it has moved of late."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._moved: deque[tuple[float, int]] = deque()

    def needs_counts(self, seen: FleetSeen, gone: frozenset[int]) -> bool:
        """Whether something is to be decided for which the runs have to be counted."""
        return any(self._is_dead(one, gone) or self._is_new_hog(one) for one in seen.managers)

    def decide(self, seen: FleetSeen, gone: frozenset[int], now_s: float) -> Orders:
        """What has to be done. `gone` are the locks of processes that have died; runs are counted. `now_s` is a
        monotonic clock's."""
        limits = self._limits
        dead = [one for one in seen.managers if self._is_dead(one, gone)]
        alive = [one for one in seen.managers if one not in dead]
        well = [one for one in alive if one.heard_s < limits.suspect_s]
        reserved = self._reserve(well)
        taken = {one.manager for one in reserved} | {one.id for one in alive if one.reserved is not None}
        targets = [one for one in well if one.id not in taken]
        freed: tuple[str, ...] = ()
        if not targets:
            # Nobody may have a run for itself while others have no manager.
            freed = tuple(one.id for one in well if one.reserved is not None)
            reserved, targets = (), well
            taken -= set(freed)
        counts = {one.id: one.runs for one in targets}
        deaths = tuple(
            Dead(one.id, one.fence, one.left_s >= 0, _spread(counts, one.runs + one.leaving)) for one in dead
        )
        moves = [*self._leave(alive, taken, reserved, counts), *self._even(targets, counts, now_s)]
        late = [one for one in alive if one.leaving and one.leaving_s > limits.patience_s]
        return Orders(
            dead=deaths,
            forced=tuple(one.id for one in late if one.heard_s > limits.patience_s),
            withdrawn=tuple(one.id for one in late if one.heard_s <= limits.patience_s),
            moves=tuple(moves),
            reserved=reserved,
            freed=freed,
            sweep=seen.left_behind > 0,
            older_s=limits.patience_s,
        )

    @staticmethod
    def _is_dead(one: ManagerSeen, gone: frozenset[int]) -> bool:
        return one.left_s < 0 or (one.lock_key is not None and one.lock_key in gone)

    @staticmethod
    def _is_new_hog(one: ManagerSeen) -> bool:
        return one.hog_run is not None and one.reserved != one.hog_run

    def _reserve(self, well: list[ManagerSeen]) -> tuple[Reserve, ...]:
        """Managers that have a hog get it for themselves, as long as another is left."""
        free = sum(1 for one in well if one.reserved is None)
        made: list[Reserve] = []
        for one in well:
            if one.hog_run is None or not self._is_new_hog(one):
                continue
            free -= one.reserved is None
            if free < 1:
                break
            for_good = one.run_hogs + 1 >= HOGS_FOR_GOOD
            made.append(Reserve(one.id, one.fence, one.hog_run, None if for_good else self._limits.spared_s))
        return tuple(made)

    @staticmethod
    def _leave(
        alive: list[ManagerSeen], taken: set[str], reserved: Iterable[Reserve], counts: dict[str, int]
    ) -> Iterable[Move]:
        """All but one leave a manager that has a run for itself."""
        runs = {one.manager: one.run for one in reserved}
        for one in alive:
            keep = runs.get(one.id, one.reserved)
            if one.id in taken and keep is not None and one.runs > 1:
                shares = _spread(counts, one.runs - 1)
                if shares:
                    yield Move(one.id, shares, keep, "hog")

    def _even(self, targets: list[ManagerSeen], counts: dict[str, int], now_s: float) -> Iterable[Move]:
        """Some leave the fullest for the emptiest."""
        total = sum(one.runs for one in targets)
        if len(targets) < 2 or not total:
            return
        mean = total / len(targets)
        if max(one.runs for one in targets) - mean <= max(1.0, SKEW * mean):
            return
        room = max(1, int(total * MOVED_SHARE)) - self._moved_lately(now_s)
        for one in sorted(targets, key=lambda one: (-one.runs, one.id)):
            surplus = min(one.runs - math.ceil(mean), room)
            if surplus <= 0:
                break
            others = {other.id: counts[other.id] for other in targets if other.runs < mean and other.id != one.id}
            shares = tuple(
                Share(share.manager, share.runs) for share in _spread(others, surplus, ceiling=math.ceil(mean))
            )
            moved = sum(share.runs for share in shares)
            if not moved:
                break
            for share in shares:
                counts[share.manager] += share.runs
            room -= moved
            self._moved.append((now_s, moved))
            yield Move(one.id, shares, one.hog_run, "skew")

    def _moved_lately(self, now_s: float) -> int:
        while self._moved and self._moved[0][0] <= now_s - self._limits.window_s:
            self._moved.popleft()
        return sum(count for _, count in self._moved)


def _spread(counts: dict[str, int], runs: int, ceiling: int | None = None) -> tuple[Share, ...]:
    """Give so many runs to those that have the fewest, until all have the same; `counts` are brought up to date.

    `ceiling`: none gets more than that in all. What nobody takes is left out.
    """
    given = dict.fromkeys(sorted(counts), 0)
    left = runs
    while left > 0 and counts:
        least = min(counts.values())
        lowest = [name for name in given if counts[name] == least]
        above = min((count for count in counts.values() if count > least), default=None)
        step = left if above is None else min(left, (above - least) * len(lowest))
        if ceiling is not None:
            step = min(step, max(0, ceiling - least) * len(lowest))
        if step <= 0:
            break
        each, more = divmod(step, len(lowest))
        for number, name in enumerate(lowest):
            extra = each + (number < more)
            given[name] += extra
            counts[name] += extra
        left -= step
    return tuple(Share(name, count) for name, count in given.items() if count)
