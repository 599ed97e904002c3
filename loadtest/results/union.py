"""Loss and doubling, judged over what all gateways have stored: every acknowledged event must be in one of them.

An event is one by account, device and id. Gateways with embedded indices each keep what came through them, so an event
whose ack was lost may be in two of them (`copies`; in a shared index they are one document). More than one row in the
index of one gateway is a double.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from loadtest.results.records import Judged

# One pass holds so many events in memory, at about 0.1 KB each.
EVENTS_A_PASS = 2_000_000
NAMED = 20
INDEX_PATTERN = "locations/locations-????-??-??.db"

Pair = tuple[str, str]
Pairs = Callable[[], Iterable[Pair]]
_decode = msgspec.json.Decoder(list[DeviceEvents]).decode


class StoredEvents(NamedTuple):
    """What one gateway holds, as (device, id): rows of its index, and what waits in its spool."""

    indexed: Pairs
    waiting: Pairs = tuple


def judge(stores: Sequence[StoredEvents], acked: Pairs, events: int, time_ms: int) -> Judged:
    """Compare. `events` is about how many there are: many are looked at in several passes."""
    passes = 1 + events // EVENTS_A_PASS
    lost: list[str] = []
    doubled: list[str] = []
    counts: Counter[str] = Counter()
    for number in range(passes):
        found: set[int] = set()
        for store in stores:
            own: set[int] = set()
            for key, pair in _of_pass(store.indexed(), number, passes):
                if key in own:
                    counts["doubled"] += 1
                    _name(doubled, pair)
                own.add(key)
            own.update(key for key, _ in _of_pass(store.waiting(), number, passes))
            counts["copies"] += len(own & found)
            found |= own
        told: set[int] = set()
        for key, pair in _of_pass(acked(), number, passes):
            if key in told:
                continue
            told.add(key)
            if key not in found:
                counts["lost"] += 1
                _name(lost, pair)
        counts["acked"] += len(told)
        counts["stored"] += len(found)
    return Judged(
        time_ms=time_ms,
        acked=counts["acked"],
        stored=counts["stored"],
        lost=counts["lost"],
        doubled=counts["doubled"],
        copies=counts["copies"],
        lost_ids=lost,
        doubled_ids=doubled,
    )


def data_folder(folder: Path, account: str) -> StoredEvents:
    """The files of a gateway that has stopped."""

    def indexed() -> Iterator[Pair]:
        for path in sorted(folder.glob(INDEX_PATTERN)):
            with _opened(path) as database:
                # A device's account is its number less one (sqlite_day.py).
                yield from database.execute(
                    "SELECT device.name, location.id FROM location JOIN device ON device.number = location.device "
                    "WHERE device.account = (SELECT number - 1 FROM account WHERE name = ?)",
                    (account,),
                )

    def waiting() -> Iterator[Pair]:
        path = folder / "spool.db"
        if not path.exists():
            return
        with _opened(path) as database:
            for (body,) in database.execute("SELECT body FROM record"):
                for group in _decode(body):
                    if group.account == account:
                        yield from ((group.device, event.id) for event in group.events)

    return StoredEvents(indexed, waiting)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Read only. Raises StoreError."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def acked_files(paths: Sequence[Path], account: str) -> Pairs:
    """What fleets wrote of acknowledged events: account, device, what its ids begin with, and numbers (`1-7,9`)."""

    def pairs() -> Iterator[Pair]:
        for path in paths:
            if not path.exists():
                continue
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    if not line.endswith("\n"):
                        break  # a kill cut it
                    tenant, device, run, ranges = line.rstrip("\n").split("\t")
                    if tenant == account:
                        yield from ((device, f"{run}{number}") for number in _numbers(ranges))

    return pairs


def _numbers(ranges: str) -> Iterator[int]:
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _of_pass(pairs: Iterable[Pair], number: int, passes: int) -> Iterator[tuple[int, Pair]]:
    for pair in pairs:
        # 64 bits: among ten million events two collide with a chance of 1 in 370,000.
        key = int.from_bytes(blake2b(f"{pair[0]}\0{pair[1]}".encode(), digest_size=8).digest())
        if key % passes == number:
            yield key, pair


def _name(names: list[str], pair: Pair) -> None:
    if len(names) < NAMED:
        names.append(f"{pair[0]} {pair[1]}")
