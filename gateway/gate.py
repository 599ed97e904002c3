"""Places for work on the outside: so many at a time, of one account a share of them, and accounts take turns."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from gateway.rotation import Rotation

_Place = asyncio.Future[None]


class Gate:
    """`of_one`: more places one account never has, however many it asks for, so that others find some."""

    def __init__(self, places: int, of_one: int) -> None:
        self._free = places
        self._of_one = of_one
        self._numbers = count()
        # Of each account: how many have a place, or are in line for one.
        self._asked: Counter[str] = Counter()
        self._line: Rotation[int, _Place] = Rotation()
        # Those whose account has its share.
        self._behind: dict[str, deque[_Place]] = {}

    @asynccontextmanager
    async def place(self, account: str) -> AsyncIterator[None]:
        """Wait for one, and have it. Cancelling is harmless."""
        place: _Place = asyncio.get_running_loop().create_future()
        if self._asked[account] < self._of_one:
            self._ask(account, place)
        else:
            self._behind.setdefault(account, deque()).append(place)
        self._give()
        try:
            await place
        except asyncio.CancelledError:
            # It may have been given in this very moment.
            if place.done() and not place.cancelled():
                self._leave(account)
            raise
        try:
            yield
        finally:
            self._leave(account)

    def _ask(self, account: str, place: _Place) -> None:
        self._asked[account] += 1
        self._line.put(account, next(self._numbers), place)

    def _give(self) -> None:
        while self._free and self._line:
            following = self._line.take()
            if following.value.done():
                # Who wanted it has gone.
                self._retire(following.account)
            else:
                self._free -= 1
                following.value.set_result(None)

    def _leave(self, account: str) -> None:
        self._free += 1
        self._retire(account)
        self._give()

    def _retire(self, account: str) -> None:
        """One of an account's share is for the next of it."""
        self._asked[account] -= 1
        behind = self._behind.get(account, deque())
        while behind and self._asked[account] < self._of_one:
            place = behind.popleft()
            if not place.done():
                self._ask(account, place)
        if not behind:
            self._behind.pop(account, None)
        if not self._asked[account]:
            del self._asked[account]
