"""Lines by account, which take turns: what waits for one account holds up no other."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Next(NamedTuple, Generic[K, V]):
    account: str
    key: K
    value: V


class Rotation(Generic[K, V]):
    """Keys with a value each. Within an account the first is first; every call takes constant time."""

    def __init__(self) -> None:
        # Of plain dicts the first key is found ever more slowly, the more were taken from the front.
        self._lines: OrderedDict[str, OrderedDict[K, V]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, account: str, key: K, value: V, *, first: bool = False) -> None:
        """At the end; one that is there keeps its value, and its place unless it is to be the `first` of its line."""
        line = self._lines.get(account)
        if line is None:
            line = self._lines[account] = OrderedDict()
        if key not in line:
            line[key] = value
            self._count += 1
        if first:
            line.move_to_end(key, last=False)

    def take(self) -> Next[K, V]:
        """The next one. Raises KeyError when there is none."""
        account, line = self._lines.popitem(last=False)
        key, value = line.popitem(last=False)
        self._count -= 1
        if line:
            self._lines[account] = line
        return Next(account, key, value)
