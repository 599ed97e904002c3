"""Of what comes often the newest, once in a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

PACE_S = 1.0
T = TypeVar("T")


class Paced(Generic[T]):
    """Calling it hands the first value on at once, and then the newest one each `pace_s`. `close` drops what waits."""

    def __init__(self, hand_on: Callable[[T], None], pace_s: float = PACE_S) -> None:
        self._hand_on = hand_on
        self._pace_s = pace_s
        self._newest: T | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, value: T) -> None:
        if self._timer is not None:
            self._newest = value
            return
        self._hand_on(value)
        self._rest()

    def close(self) -> None:
        """Nothing is handed on any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _rest(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pace_s, self._next)

    def _next(self) -> None:
        value, self._newest, self._timer = self._newest, None, None
        if value is not None:
            self._hand_on(value)
            self._rest()
