"""Tasks that wait for the end of a process, or for Ctrl-C, and then do something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Watchers:
    """One task for each event that is watched."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self, event: asyncio.Event, then: Callable[[], Any]) -> None:
        """Once the event is set, call `then`, and wait for its result when it is a coroutine."""

        async def watch() -> None:
            await event.wait()
            result = then()
            if asyncio.iscoroutine(result):
                await result

        self._tasks.append(asyncio.create_task(watch(), name="watch"))

    async def cancel(self) -> None:
        """Watch no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
