"""A transport without a socket: it records what is written and lets a test play the peer and the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class FakeSocket:
    """Remembers the options that were set."""

    def __init__(self) -> None:
        self.options: list[tuple[Any, ...]] = []

    def setsockopt(self, *option: Any) -> None:
        self.options.append(option)


class Turns:
    """What is to be called in the next turn of the loop; a test ends the turn."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def defer(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        """Until nothing is left to do."""
        while self._callbacks:
            self._callbacks.pop(0)()


class FakeTransport(asyncio.Transport):
    """The peer reads at once until `stop_taking()`; then what is written stays in the buffer.

    As on a real loop the protocol hears of the end later: `finish()` is that turn of the loop.
    """

    def __init__(
        self, protocol: asyncio.Protocol | None = None, address: str = "192.0.2.1", turns: Turns | None = None
    ) -> None:
        super().__init__()
        self._turns = turns or Turns()
        self.protocol = protocol
        self.socket = FakeSocket()
        self.address = address
        self.written = bytearray()
        self._writes = 0
        self._unsent = 0
        self._reading = True
        self.ended = False
        self.closing = False
        self.aborted = False
        self.lost = False
        self._taking = True
        self._high = 65_536
        self._writing_paused = False

    # What a protocol uses

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (self.address, 40_000), "socket": self.socket}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "a write after write_eof"
        assert not self.lost, "a write after connection_lost"
        if self.closing:
            return
        self.written += data
        self._writes += 1
        if not self._taking:
            self._unsent += len(data)
            if self._unsent > self._high and not self._writing_paused:
                self._writing_paused = True
                assert self.protocol is not None
                self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        assert not self.ended, "a second write_eof"
        self.ended = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65_536 if high is None else high

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def pause_reading(self) -> None:
        assert self._reading, "paused twice"
        self._reading = False

    def resume_reading(self) -> None:
        assert not self._reading, "resumed twice"
        self._reading = True

    def is_reading(self) -> bool:
        return self._reading

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True
        self._unsent = 0

    # What a test does

    def feed(self, data: bytes) -> None:
        """The peer sent this, and the loop read it in one piece."""
        assert self.protocol is not None
        if not self.closing:
            self.protocol.data_received(data)
        self._turns.end()

    def feed_eof(self) -> None:
        """The peer ended its side."""
        assert self.protocol is not None
        if not self.closing and not self.protocol.eof_received():
            self.close()
        self._turns.end()

    @property
    def reading(self) -> bool:
        """Whether the protocol wants to read."""
        self._turns.end()
        return self._reading

    @property
    def unsent(self) -> int:
        """What the peer has not taken."""
        self._turns.end()
        return self._unsent

    @property
    def writes(self) -> int:
        """How often something was written."""
        self._turns.end()
        return self._writes

    def take(self) -> bytes:
        """What was written since the last call."""
        self._turns.end()
        data = bytes(self.written)
        self.written.clear()
        return data

    def stop_taking(self) -> None:
        """The peer does not read any more."""
        self._turns.end()
        self._taking = False

    def take_again(self) -> None:
        """The peer reads everything."""
        self._taking = True
        self._unsent = 0
        if self._writing_paused:
            self._writing_paused = False
            assert self.protocol is not None
            self.protocol.resume_writing()

    def finish(self, error: Exception | None = None) -> None:
        """The loop tells the protocol that the connection is gone."""
        assert not self.lost
        self._turns.end()
        self.closing = self.lost = True
        protocol, self.protocol = self.protocol, None
        assert protocol is not None
        protocol.connection_lost(error)
