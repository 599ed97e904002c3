"""One SQLite file with one thread of its own, in which all that blocks happens."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.adapters.sqlite.file import open_store
from gateway.errors import StoreError

CACHE_BYTES = 4 * 1024 * 1024

T = TypeVar("T")


class ThreadedFile:
    """`run` is for the event loop; everything else is for what it runs."""

    def __init__(self, path: Path, thread: str, schema: str, version: int, checkpoint_bytes: int) -> None:
        self.path = path
        self._schema = schema
        self._version = version
        self._checkpoint_bytes = checkpoint_bytes
        self._thread = ThreadPoolExecutor(1, thread)
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """In the thread, after what came before it. Raises StoreError after `close`, else what the call raises."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except RuntimeError as error:
            raise StoreError(f"{self.path} is closed") from error

    async def close(self, last: Callable[[], None]) -> None:
        """Run this and end the thread. Harmless when called again."""
        if not self._closed:
            self._closed = True
            await self.run(last)
            self._thread.shutdown(wait=False)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def db(self) -> sqlite3.Connection:
        """The connection. Raises StoreError when there is none."""
        if self._connection is None:
            raise StoreError(f"{self.path} is closed")
        return self._connection

    def connect(self) -> None:
        """Open the file, which is made where there is none. Raises StoreError, of which DamagedStoreError is one."""
        self._connection = open_store(
            self.path,
            self._schema,
            self._version,
            checkpoint_bytes=self._checkpoint_bytes,
            cache_bytes=CACHE_BYTES,
        )

    def disconnect(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
