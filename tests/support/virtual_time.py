"""An event loop whose time jumps to the next timer: hours pass in seconds, and always in the same order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
# Nothing that these tests play has so much to do at once.
STANDSTILL_TURNS = 50_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0 and moves only when nothing is left to do now. For what waits on timers, not on sockets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Virtual seconds."""
        return self.now_s


class LoopClock:
    """The Clock port on the running loop's time."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def time_ms(self) -> int:
        return round(self.monotonic_s() * 1000)


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        self._turns = self._turns + 1 if timeout == 0 else 0
        assert self._turns < STANDSTILL_TURNS, "time stands still: something goes round and round"
        if not found:
            if timeout is None:
                raise RuntimeError("nothing will ever happen: no timer is set")
            self._loop.now_s += max(0.0, timeout)
        return found


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
