"""Lines of standard input: a fleet process reads its options from the first one, and a command from each further one.

The options hold the secret that signs the tokens, and every user of a machine can read the arguments of a process.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

from gateway.errors import SettingsError

MAX_LINE_BYTES = 1 << 20


class InputLines:
    """The lines of a descriptor. They bypass Python's buffered reader, whose lock a thread would hold at exit."""

    def __init__(self, descriptor: int = 0, limit_bytes: int = MAX_LINE_BYTES) -> None:
        self._descriptor = descriptor
        self._limit_bytes = limit_bytes
        self._buffer = b""

    def next(self) -> bytes:
        """The next line with its end, or b"" after the last. Blocks. Raises SettingsError when a line is too long."""
        while b"\n" not in self._buffer:
            data = os.read(self._descriptor, 65_536)
            if not data:
                rest, self._buffer = self._buffer, b""
                return rest
            self._buffer += data
            if len(self._buffer) > self._limit_bytes and b"\n" not in self._buffer:
                raise SettingsError("standard input", f"a line of more than {self._limit_bytes} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def follow(self, on_line: Callable[[bytes], None], loop: asyncio.AbstractEventLoop) -> None:
        """Call `on_line` in the loop with each further line, and with b"" at the end or when a line is too long.

        A thread reads, because a loop can wait for a pipe, but not for a file or a terminal.
        """

        def read() -> None:
            line = b"\n"
            while line:
                try:
                    line = self.next()
                except SettingsError:
                    line = b""
                try:
                    loop.call_soon_threadsafe(on_line, line)
                except RuntimeError:  # the loop is closed
                    return

        threading.Thread(target=read, name="commands", daemon=True).start()
