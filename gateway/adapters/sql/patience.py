"""How long a process waits for a database that does not answer: at its end not for ever.

Who is cancelled inside a statement still waits until the server has heard of it. A server that stands still, or a
network that swallows packets, never hears: then the connections themselves have to end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


class Patience:
    """Of all who wait for one database."""

    def __init__(self) -> None:
        self._connections: WeakSet[Any] = WeakSet()
        self._waiting: set[asyncio.Timeout] = set()
        self._over = False

    def watch(self, engine: AsyncEngine) -> None:
        """End its connections, too. Not those of SQLite: they are threads, which end with their statement."""

        @event.listens_for(engine.sync_engine, "connect")
        def connected(connection: Any, _: Any) -> None:
            self._connections.add(connection.driver_connection)

    @contextlib.asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Raises TimeoutError once it is over."""
        if self._over:
            raise TimeoutError
        async with asyncio.timeout(None) as waiting:
            self._waiting.add(waiting)
            try:
                yield
            finally:
                self._waiting.discard(waiting)

    def end(self) -> None:
        """Nothing waits from here on. Harmless again."""
        self._over = True
        for connection in list(self._connections):
            connection.terminate()
        # Those that are connecting.
        for waiting in self._waiting:
            waiting.reschedule(asyncio.get_running_loop().time())
        self._waiting.clear()
