"""What is due to connections in this turn of the loop: for each it leaves in one write.

An event loop that sends every write at once takes a system call for each; ten small frames cost four times as much as
one piece of the same bytes. A loop runs callbacks, then reads: so what is due to a connection leaves with the answers
to what it has just sent, and to the others at the end of the turn, by one callback for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Protocol

# What a turn writes before others get theirs: about 5 ms.
WRITES_A_TURN = 500
# What is collected for one connection is bounded. For a large part a system call is little beside the copying, and it
# shows at once whether the peer is slow.
MAX_PARTS = 64
LARGE_BYTES = 16_384


class Writer(Protocol):
    """Whoever something is due to."""

    def write_out(self, data: bytes) -> None:
        """Hand it to the transport."""

    def failed(self, error: Exception) -> None:
        """`write_out` raised this."""


class Outbox:
    """`defer` calls back in the next turn, as `loop.call_soon` does. `reader` is whose bytes are being dealt with: it
    flushes by itself when that is done."""

    __slots__ = ("_defer", "_due", "_planned", "reader")

    def __init__(self, defer: Callable[[Callable[[], None]], object]) -> None:
        self._defer = defer
        self._due: dict[Writer, list[bytes]] = {}
        self._planned = False
        self.reader: Writer | None = None

    def add(self, writer: Writer, data: bytes) -> None:
        """This is due to it, after what is already."""
        parts = self._due.get(writer)
        if parts is None:
            self._due[writer] = [data]
            if writer is not self.reader and not self._planned:
                self._planned = True
                self._defer(self.end_turn)
        else:
            parts.append(data)
            if len(parts) > MAX_PARTS:
                self.flush(writer)
        if len(data) > LARGE_BYTES:
            self.flush(writer)

    def flush(self, writer: Writer) -> None:
        """It gets now what is due to it. Raises what `write_out` raises."""
        parts = self._due.pop(writer, None)
        if parts is not None:
            writer.write_out(parts[0] if len(parts) == 1 else b"".join(parts))

    def drop(self, writer: Writer) -> None:
        """It is gone."""
        self._due.pop(writer, None)

    def end_turn(self) -> None:
        """Everyone gets what is due; of very many, the others in the turns to come."""
        due = self._due
        if len(due) <= WRITES_A_TURN:
            self._due, self._planned = {}, False
            for writer, parts in due.items():
                _write(writer, parts)
            return
        for writer in list(islice(due, WRITES_A_TURN)):
            _write(writer, due.pop(writer))
        self._defer(self.end_turn)


def _write(writer: Writer, parts: list[bytes]) -> None:
    try:
        writer.write_out(parts[0] if len(parts) == 1 else b"".join(parts))
    except Exception as error:
        writer.failed(error)
