"""Tasks that a process owns: each has a name, none may end by itself, and all end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway.errors import TaskFailedError


class Tasks:
    """Belongs to one running event loop."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it until `close`."""
        self._tasks.append(asyncio.create_task(coroutine, name=name))

    async def watch(self, stop: asyncio.Event, *others: asyncio.Future[None]) -> None:
        """Return when `stop` is set. Raises TaskFailedError, from its cause, when a task or one of `others` ended."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        watched: list[asyncio.Future[Any]] = [*self._tasks, *others]
        try:
            await asyncio.wait([stopping, *watched], return_when=asyncio.FIRST_COMPLETED)
            for ended in watched:
                if ended.done():
                    raise _failure(ended)
        finally:
            stopping.cancel()

    async def close(self) -> None:
        """Cancel all, and wait for their end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _failure(ended: asyncio.Future[Any]) -> TaskFailedError:
    cause = None if ended.cancelled() else ended.exception()
    if isinstance(cause, TaskFailedError):
        return cause
    name = ended.get_name() if isinstance(ended, asyncio.Task) else "?"
    error = TaskFailedError(f"the task {name!r} ended")
    error.__cause__ = cause
    return error
