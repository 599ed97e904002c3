"""Loss and doubling over the stores of all gateways: each acknowledged event must be in one of them.

Account, device and id identify an event. Each gateway with an embedded index keeps what came through itself, so that an
event whose ack was lost may be in two of them (`copies`; in a shared index they are one document). Several rows in the
index of one gateway are doubles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from gateway.adapters.sqlite import audit
from loadtest.fleet import acked
from loadtest.results.records import Judged

# Events that one pass holds in memory, at about 0.1 KB each.
EVENTS_A_PASS = 2_000_000
NAMED = 20

EventKey = tuple[str, str]
EventKeys = Callable[[], Iterable[EventKey]]


class StoredEvents(NamedTuple):
    """What one gateway holds, as (device, id): the rows of its index, and what waits in its spool."""

    indexed: EventKeys
    waiting: EventKeys = tuple


def judge(stores: Sequence[StoredEvents], acknowledged: EventKeys, events: int, time_ms: int) -> Judged:
    """Compare what was acknowledged with what is stored. `events` is about their number: many take several passes."""
    comparison = _Comparison(1 + events // EVENTS_A_PASS)
    for number in range(comparison.passes):
        stored = comparison.add_stored(stores, number)
        comparison.add_acknowledged(acknowledged, stored, number)
    counts = comparison.counts
    return Judged(
        time_ms=time_ms,
        acked=counts["acked"],
        stored=counts["stored"],
        lost=counts["lost"],
        doubled=counts["doubled"],
        copies=counts["copies"],
        lost_ids=comparison.lost,
        doubled_ids=comparison.doubled,
    )


class _Comparison:
    """What the passes so far found. Each pass looks at the events of its own keys only."""

    def __init__(self, passes: int) -> None:
        self.passes = passes
        self.counts: Counter[str] = Counter()
        self.lost: list[str] = []
        self.doubled: list[str] = []

    def add_stored(self, stores: Sequence[StoredEvents], number: int) -> set[int]:
        """Count what is stored; returns its keys."""
        found: set[int] = set()
        for store in stores:
            own: set[int] = set()
            for key, pair in self._of_pass(store.indexed(), number):
                if key in own:
                    self.counts["doubled"] += 1
                    _name(self.doubled, pair)
                own.add(key)
            own.update(key for key, _ in self._of_pass(store.waiting(), number))
            self.counts["copies"] += len(own & found)
            found |= own
        self.counts["stored"] += len(found)
        return found

    def add_acknowledged(self, acknowledged: EventKeys, stored: Set[int], number: int) -> None:
        """Count what was acknowledged, and what of it is not among `stored`."""
        told: set[int] = set()
        for key, pair in self._of_pass(acknowledged(), number):
            if key in told:
                continue
            told.add(key)
            if key not in stored:
                self.counts["lost"] += 1
                _name(self.lost, pair)
        self.counts["acked"] += len(told)

    def _of_pass(self, pairs: Iterable[EventKey], number: int) -> Iterator[tuple[int, EventKey]]:
        for pair in pairs:
            # 64 bits: among ten million events two collide with a chance of 1 in 370,000.
            key = int.from_bytes(blake2b(f"{pair[0]}\0{pair[1]}".encode(), digest_size=8).digest())
            if key % self.passes == number:
                yield key, pair


def data_folder(folder: Path, account: str) -> StoredEvents:
    """What the data folder of a stopped gateway holds."""
    return StoredEvents(partial(audit.indexed, folder, account), partial(audit.spooled, folder, account))


def acked_files(paths: Sequence[Path], account: str) -> EventKeys:
    """The acknowledged events of an account that fleets wrote to these files."""

    def pairs() -> Iterator[EventKey]:
        for path in paths:
            if path.exists():
                yield from ((device, name) for owner, device, name in acked.read(path) if owner == account)

    return pairs


def _name(names: list[str], pair: EventKey) -> None:
    if len(names) < NAMED:
        names.append(f"{pair[0]} {pair[1]}")
