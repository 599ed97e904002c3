"""What is due to connections in this turn of the loop: it leaves at its end, for each in one write.

An event loop that sends every write at once takes a system call for each; ten small frames cost four times as much as
one piece of the same bytes. One callback a turn serves all connections.
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
    """`defer` calls back in the next turn, as `loop.call_soon` does."""

    __slots__ = ("_defer", "_due")

    def __init__(self, defer: Callable[[Callable[[], None]], object]) -> None:
        self._defer = defer
        self._due: dict[Writer, list[bytes]] = {}

    def add(self, writer: Writer, data: bytes) -> None:
        """This is due to it, after what is already."""
        due = self._due
        parts = due.get(writer)
        if parts is None:
            parts = due[writer] = [data]
            if len(due) == 1:
                self._defer(self.end_turn)
        else:
            parts.append(data)
        if len(data) > LARGE_BYTES or len(parts) > MAX_PARTS:
            self.flush(writer)

    def flush(self, writer: Writer) -> None:
        """It gets now what is due to it."""
        parts = self._due.pop(writer, None)
        if parts is not None:
            _write(writer, parts)

    def drop(self, writer: Writer) -> None:
        """It is gone."""
        self._due.pop(writer, None)

    def end_turn(self) -> None:
        """Everyone gets what is due; of very many, the others in the turns to come."""
        due = self._due
        if len(due) <= WRITES_A_TURN:
            self._due = {}
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
