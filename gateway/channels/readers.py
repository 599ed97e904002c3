"""Reads what channels need from stores: few at a time, one channel at most once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.channels.subscribers import Subscribers
from gateway.telemetry.log import Log

AT_ONCE = 16

_log = Log("channels")


class Readers:
    """`want` may be called at any time on the loop's thread. Others wait in the order they came.

    `read` handles the errors of stores; what else it raises is logged, `failed` is told, and that channel is read
    when it is next wanted.
    """

    def __init__(
        self, read: Callable[[Subscribers], Awaitable[None]], failed: Callable[[Subscribers], None] = lambda _: None
    ) -> None:
        self._read = read
        self._failed = failed
        self._queue: dict[Subscribers, None] = {}
        self._running: dict[Subscribers, asyncio.Task[None]] = {}
        self._again: set[Subscribers] = set()

    def __len__(self) -> int:
        """How many are being read, or wait for it."""
        return len(self._queue) + len(self._running)

    def want(self, subscribers: Subscribers) -> None:
        """Read it soon; once more when it is being read."""
        if subscribers in self._running:
            self._again.add(subscribers)
        else:
            self._queue[subscribers] = None
            self._start()

    def _start(self) -> None:
        while self._queue and len(self._running) < AT_ONCE:
            subscribers = next(iter(self._queue))
            del self._queue[subscribers]
            task = asyncio.create_task(self._run(subscribers), name="channel-read")
            self._running[subscribers] = task

    async def _run(self, subscribers: Subscribers) -> None:
        try:
            await self._read(subscribers)
        except Exception as error:
            _log.error("channel_failed", channel=subscribers.channel.family, exc_info=error)
            self._failed(subscribers)
        finally:
            del self._running[subscribers]
            if subscribers in self._again:
                self._again.discard(subscribers)
                self._queue[subscribers] = None
        self._start()

    async def close(self) -> None:
        """End all reads."""
        self._queue.clear()
        self._again.clear()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
