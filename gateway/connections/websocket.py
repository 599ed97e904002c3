"""The websocket protocol of one connection: one small object on the event loop's transport, no task, timer or queue.

What nearly every frame is, is read here (frames.py); for anything else the websocket inflates to the Sans-I/O layer
(inflated.py) and deflates when that is dealt with. What leaves, and how it ends, is in outgoing.py.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final

from gateway.connections.ending import CLOSING, ENDED, GREETING, PHASE, RESETTING, UNANNOUNCED, Step
from gateway.connections.outgoing import PAUSED_RATE, PAUSED_TURN, Outgoing, Partial
from gateway.rate import next_arrival
from gateway.wire import close_codes
from gateway.wire.frames import CLOSE, INCOMPLETE, PING, TEXT, PlainFrame, pong_frame, read_plain_frame
from gateway.wire.inflated import Inflated

# FIN and pong, masked and without a payload; then the mask (RFC 6455, 5.2).
_EMPTY_PONG: Final = b"\x8a\x80"
_EMPTY_PONG_BYTES: Final = 6
# One read of 256 KB can hold 43,000 frames: the other connections get a turn in between.
MAX_FRAMES_A_TURN: Final = 1000


class Websocket(Outgoing):
    """An open websocket: frames in both directions, limits of rate and size."""

    __slots__ = ()

    @abstractmethod
    def on_message(self, payload: bytes, binary: bool) -> None:
        """A whole message within the rate; text is valid UTF-8."""

    @abstractmethod
    def greet(self) -> None:
        """Send the first message, and whatever had to wait for it."""

    # Reading

    def data_received(self, data: bytes) -> None:
        hub, slot = self.hub, self.slot
        table, now_s = hub.table, hub.now_s
        table.heard_s[slot] = now_s
        at_rest = not self._flags and self._partial is None is self._inflated
        # All that most devices send for hours: the answer to an empty ping.
        if at_rest and len(data) == _EMPTY_PONG_BYTES and data.startswith(_EMPTY_PONG):
            self._spend(hub.limits.frame_s)
            return
        if hub.limits.byte_s:
            arrival_s = table.bytes_s[slot] = next_arrival(table.bytes_s[slot], now_s, len(data) * hub.limits.byte_s)
            if arrival_s - now_s > hub.limits.bytes_burst_s:
                self._pause(PAUSED_RATE)
                hub.wheel.schedule(slot, now_s)
        outbox = hub.outbox
        outbox.reader = self
        try:
            # One whole text message a read is the rule.
            frame = read_plain_frame(data, 0, hub.limits.message_bytes) if at_rest else None
            if isinstance(frame, PlainFrame) and frame.opcode == TEXT and frame.end == len(data):
                self._text(frame.payload)
            else:
                self._receive(data)
        except Exception as error:
            # An error of ours ends this connection only.
            self.failed(error)
        outbox.reader = None
        outbox.flush(self)

    def _receive(self, data: bytes) -> None:
        if self._flags & PHASE in (GREETING, UNANNOUNCED):
            self.greet()
        if self._partial is None:
            self._read(data)
        elif (whole := self._completed(self._partial, data)) is not None:
            self._read(whole)

    def _completed(self, partial: Partial, data: bytes) -> bytes | None:
        """These bytes with the partial frame before them; None while that is not whole."""
        # Grown in place: a frame that comes byte by byte must not be copied for each of them.
        partial.data += data
        if read_plain_frame(partial.data, 0, self.hub.limits.message_bytes) is INCOMPLETE:
            self._spend(self.hub.limits.read_s)
            return None
        self._partial = None
        return bytes(partial.data)

    def _read(self, data: bytes) -> None:
        position, size, frames = 0, len(data), 0
        while position < size and self._flags & PHASE not in (RESETTING, ENDED):
            frames += 1
            if frames > MAX_FRAMES_A_TURN:
                self._go_on_later(data[position:])
                return
            if self._inflated is not None:
                position = self._read_inflated(self._inflated, data, position)
                continue
            frame = read_plain_frame(data, position, self.hub.limits.message_bytes)
            if isinstance(frame, PlainFrame):
                if frame.opcode == TEXT:
                    self._text(frame.payload)
                elif frame.opcode == CLOSE:
                    if self._flags & PHASE < CLOSING:
                        self._inflate()
                        continue
                    self._step(Step.DONE)
                    self._end_writing()
                elif self._spend(self.hub.limits.frame_s) and frame.opcode == PING:
                    self._write(pong_frame(frame.payload))
                position = frame.end
            elif frame is INCOMPLETE:
                self._partial = Partial(data[position:] if position else data, self.hub.now_s)
                self._watch_message()
                return
            else:
                self._inflate()

    def _go_on_later(self, rest: bytes) -> None:
        """Other connections get their turn; nothing more is read of this one until then."""
        self._pause(PAUSED_TURN)
        asyncio.get_running_loop().call_soon(self._go_on, rest)

    def _go_on(self, rest: bytes) -> None:
        # The slot of a connection that has ended may be another one's by now.
        if not self.transport.is_closing():
            self._resume(PAUSED_TURN)
            try:
                self._receive(rest)
            except Exception as error:
                self.failed(error)

    def _read_inflated(self, inflated: Inflated, data: bytes, position: int) -> int:
        begins = not inflated.midway
        step = inflated.receive(data, position)
        if begins and inflated.midway:
            inflated.began_s = self.hub.now_s
            self._watch_message()
        if not step.whole:
            self._spend(self.hub.limits.read_s)
        elif step.message is None:
            self._spend(self.hub.limits.frame_s * (2 if step.empty else 1))
        if self._inflated is inflated:
            self._flush(inflated)
        if step.message is not None:
            self._message(step.message, step.binary)
        if self._inflated is inflated and step.whole and inflated.at_rest:
            self._deflate()
        return step.position

    def _text(self, payload: bytes) -> None:
        # RFC 6455, 8.1: text that is not UTF-8 fails the connection with 1007.
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                self.fail(close_codes.INVALID_DATA, error.reason)
                return
        self._message(payload, binary=False)

    def _message(self, payload: bytes, binary: bool) -> None:
        if self._spend(self.hub.limits.message_s) and self._flags & PHASE < RESETTING:
            self.hub.messages_in += 1
            self.on_message(payload, binary)

    def _spend(self, cost_s: float) -> bool:
        """Count a message, a frame or a read against the rate of messages; above it the connection fails."""
        hub = self.hub
        arrivals = hub.table.messages_s
        arrival_s = arrivals[self.slot] = next_arrival(arrivals[self.slot], hub.now_s, cost_s)
        if arrival_s - hub.now_s <= hub.limits.messages_burst_s or self._spent_meanwhile(arrival_s):
            return True
        if self._flags & PHASE >= CLOSING:
            # It was told already, and makes work all the same.
            self.transport.abort()
        else:
            self.fail(close_codes.RATE, "more messages or frames than allowed")
        return False

    def _spent_meanwhile(self, arrival_s: float) -> bool:
        """Whether it is within its rate all the same: the last tick is long ago, or what it has sent in good time lay
        unread while this process stood still."""
        hub = self.hub
        hub.catch_up()
        most_s = hub.now_s + hub.limits.messages_burst_s
        if hub.catching_up:
            arrival_s = hub.table.messages_s[self.slot] = min(arrival_s, most_s)
        return arrival_s <= most_s

    def _watch_message(self) -> None:
        """A message has one heartbeat from its first byte to its last."""
        self.hub.wheel.schedule(self.slot, self.hub.now_s + self.hub.settings.heartbeat_s)

    @property
    def message_began_s(self) -> float | None:
        """When the message began of which only a part is here; None: there is none.

        Time in which this process stood still does not count.
        """
        part: Partial | Inflated | None = self._partial
        if part is None and self._inflated is not None and self._inflated.midway:
            part = self._inflated
        return None if part is None else max(part.began_s, self.hub.resumed_s)

    def eof_received(self) -> bool | None:
        """The peer will send nothing more, and the loop closes when it has sent what is left: that may take forever."""
        self._step(Step.CLOSED)
        if self._inflated is not None:
            self._inflated.receive_eof()
        self.hub.set_deadline(self.slot, self.hub.settings.close_timeout_s)
        return None
