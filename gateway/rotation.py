"""Lines by account, which take turns: what waits for one account holds up no other."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Next(NamedTuple, Generic[K, V]):
    """Who has its turn, as it was put."""

    account: str
    key: K
    value: V
    rank: int


class Rotation(Generic[K, V]):
    """Keys with a value each. Within an account the lowest rank comes first, and of one rank the first; every call
    takes constant time."""

    def __init__(self, ranks: int = 1) -> None:
        self._ranks = ranks
        # Of plain dicts the first key is found ever more slowly, the more were taken from the front.
        self._lines: OrderedDict[str, tuple[OrderedDict[K, V], ...]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, account: str, key: K, value: V, rank: int = 0, *, first: bool = False) -> None:
        """At the end of its rank, or as its `first`. One that is there keeps its value and its place, unless it comes
        earlier by this."""
        line = self._lines.get(account)
        if line is None:
            line = self._lines[account] = tuple(OrderedDict() for _ in range(self._ranks))
        before = next((place for place, some in enumerate(line) if key in some), None)
        if before is None:
            line[rank][key] = value
            self._count += 1
        elif before > rank:
            del line[before][key]
            line[rank][key] = value
        if first and key in line[rank]:
            line[rank].move_to_end(key, last=False)

    def take(self) -> Next[K, V]:
        """The next one. Raises KeyError when there is none."""
        account, line = self._lines.popitem(last=False)
        rank = next(place for place, some in enumerate(line) if some)
        key, value = line[rank].popitem(last=False)
        self._count -= 1
        if any(line):
            self._lines[account] = line
        return Next(account, key, value, rank)
