"""The websocket protocol of one connection: one small object on the event loop's transport, no task, timer or queue.

What nearly every frame is, is read and written here (frames.py), and so is the close that we begin; for anything else
the websocket inflates to the Sans-I/O layer (inflated.py) and deflates when that is dealt with.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import abstractmethod
from typing import Final

from gateway.connections import close_codes
from gateway.connections.frames import (
    CLOSE,
    INCOMPLETE,
    PING,
    PING_FRAME,
    TEXT,
    PlainFrame,
    close_frame,
    pong_frame,
    read_plain_frame,
    text_frame,
)
from gateway.connections.hub import Cause, Hub
from gateway.connections.inflated import Inflated
from gateway.connections.rate import next_arrival

# Flags of a websocket.
CLOSING: Final = 1  # a close frame of ours is out, or the transport is ending: nothing more is sent or understood
LEAVING: Final = 2  # goaway is out; closes when the acks in flight are
RESETTING: Final = 4  # what was written has a moment to get out before the reset, and nothing more is read
PAUSED_PRESSURE: Final = 8  # the pipeline is full
PAUSED_RATE: Final = 16  # above bytes_per_s
PAUSED_WRITE: Final = 32  # the peer does not read what we send
ENDED: Final = 64  # the close frames of both sides were plain and are out: only the end of the transport is missing
PAUSED: Final = PAUSED_PRESSURE | PAUSED_RATE | PAUSED_WRITE | RESETTING

# FIN and pong, masked and without a payload; then the mask (RFC 6455, 5.2).
_EMPTY_PONG: Final = b"\x8a\x80"
_EMPTY_PONG_BYTES: Final = 6
_RESET: Final = struct.pack("ii", 1, 0)


class Websocket(asyncio.Protocol):
    """An open websocket: frames in both directions, pauses, limits of rate and size, and the closing handshake."""

    __slots__ = ("_buffer", "_flags", "_inflated", "hub", "slot", "transport")

    transport: asyncio.Transport

    def __init__(self, hub: Hub, slot: int) -> None:
        self.hub = hub
        self.slot = slot
        self._flags = 0
        self._buffer: bytes | None = None
        self._inflated: Inflated | None = None

    @abstractmethod
    def on_message(self, payload: bytes) -> None:
        """A whole text message, valid UTF-8, within the rate."""

    # Reading

    def data_received(self, data: bytes) -> None:
        hub, slot = self.hub, self.slot
        table, now_s = hub.table, hub.now_s
        table.heard_s[slot] = now_s
        # All that most devices send for hours: the answer to an empty ping.
        if len(data) == _EMPTY_PONG_BYTES and data.startswith(_EMPTY_PONG) and self._buffer is None is self._inflated:
            return
        if hub.byte_s:
            arrival_s = table.bytes_s[slot] = next_arrival(table.bytes_s[slot], now_s, len(data) * hub.byte_s)
            if arrival_s - now_s > hub.bytes_burst_s:
                self._pause(PAUSED_RATE)
                hub.wheel.schedule(slot, now_s)
        if self._buffer is not None:
            data, self._buffer = self._buffer + data, None
        position, size = 0, len(data)
        while position < size:
            if self._inflated is not None:
                position = self._read_inflated(self._inflated, data, position)
                continue
            if self._flags & ENDED:
                return
            frame = read_plain_frame(data, position, hub.max_message_bytes)
            if isinstance(frame, PlainFrame):
                if frame.opcode == TEXT:
                    self._text(frame.payload)
                elif frame.opcode == PING:
                    self.transport.write(pong_frame(frame.payload))
                elif frame.opcode == CLOSE:
                    if not self._flags & CLOSING:
                        self._inflate()
                        continue
                    self._flags |= ENDED
                    self._end_writing()
                position = frame.end
            elif frame is INCOMPLETE:
                self._buffer = data[position:] if position else data
                return
            else:
                self._inflate()

    def _read_inflated(self, inflated: Inflated, data: bytes, position: int) -> int:
        end, message, whole = inflated.receive(data, position)
        self._flush(inflated)
        if message is not None:
            self._message(message)
        if whole and self._inflated is inflated and inflated.at_rest:
            self._inflated = None
            inflated.release()
        return end

    def _text(self, payload: bytes) -> None:
        # RFC 6455, 8.1: text that is not UTF-8 fails the connection with 1007.
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                self.fail(close_codes.INVALID_DATA, error.reason)
                return
        self._message(payload)

    def _message(self, payload: bytes) -> None:
        if self._flags & CLOSING:
            return
        hub = self.hub
        hub.messages_in += 1
        if hub.message_s:
            arrivals = hub.table.messages_s
            arrival_s = arrivals[self.slot] = next_arrival(arrivals[self.slot], hub.now_s, hub.message_s)
            if arrival_s - hub.now_s > hub.messages_burst_s:
                self.fail(close_codes.RATE, "more messages a second than allowed")
                return
        self.on_message(payload)

    def eof_received(self) -> bool | None:
        """The peer will send nothing more, and the loop closes when it has sent what is left: that may take forever."""
        self._flags |= CLOSING
        if self._inflated is not None:
            self._inflated.receive_eof()
        self.hub.set_deadline(self.slot, self.hub.settings.close_timeout_s)
        return None

    # Writing

    def send(self, payload: bytes) -> None:
        """Send a text message."""
        if self._flags & CLOSING:
            return
        if self._inflated is not None:
            self._inflated.send_text(payload)
            self._flush(self._inflated)
        else:
            self.transport.write(text_frame(payload))
        if self._flags & PAUSED_WRITE:
            self._check_slow()

    def _send_first(self, answer: bytes, payload: bytes | None) -> None:
        """End the opening handshake; it and the first message leave in one system call."""
        if payload is None or self._inflated is not None:
            self.transport.write(answer)
            if payload is not None:
                self.send(payload)
        else:
            self.transport.write(answer + text_frame(payload))

    def ping(self) -> None:
        """Send an empty ping."""
        if self._flags & CLOSING or self.transport.is_closing():
            return
        if self._inflated is not None:
            self._inflated.send_ping()
            self._flush(self._inflated)
        else:
            self.transport.write(PING_FRAME)

    def _check_slow(self, more_bytes: int = 0) -> None:
        if self.transport.get_write_buffer_size() + more_bytes > self.hub.settings.outbound_max_bytes:
            self.fail(close_codes.SLOW_CONSUMER, "too much unsent data")

    def _flush(self, inflated: Inflated) -> None:
        """Write what the Sans-I/O layer wants written; it may have begun to close."""
        data, ends = inflated.output()
        if data:
            self.transport.write(data)
        if not inflated.open and not self._flags & CLOSING:
            self._flags |= CLOSING
            cause = self.hub.causes.setdefault(
                self.slot, Cause("closed_by_peer" if inflated.closed_by_peer else "protocol", inflated.close_code)
            )
            cause.code = cause.code or inflated.close_code
            self._end_pause()
            self.hub.set_deadline(self.slot, self.hub.settings.close_timeout_s)
        if ends:
            self._end_writing()

    def _end_writing(self) -> None:
        """The peer reads our last frames and ends its side; a close() with unread bytes would reset them away."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """The send buffer is above its mark: read no more, and give the peer one heartbeat to catch up."""
        self._pause(PAUSED_WRITE)
        if not self._flags & (CLOSING | LEAVING):
            self.hub.set_deadline(self.slot, self.hub.settings.heartbeat_s)

    def resume_writing(self) -> None:
        if not self._flags & (CLOSING | LEAVING):
            self.hub.table.deadline_s[self.slot] = 0
        self._resume(PAUSED_WRITE)

    # Pausing

    def _pause(self, why: int) -> None:
        if not self._flags & PAUSED and not self.transport.is_closing():
            self.transport.pause_reading()
        self._flags |= why

    def _resume(self, why: int) -> None:
        if not self._flags & why:
            return
        self._flags &= ~why
        if not self._flags & PAUSED:
            # The silence was our doing: the peer gets a whole heartbeat from here.
            self.hub.table.heard_s[self.slot] = self.hub.now_s
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # Closing

    def close(self, code: int, reason: str, cause: str, label: str = "", *, last: bytes | None = None) -> None:
        """Begin the closing handshake; the connection ends when the peer answers, or after `close_timeout_s`.

        `last` is a message that leaves before it, in the same system call.
        """
        if self._flags & CLOSING:
            return
        self._flags |= CLOSING
        self.hub.causes[self.slot] = Cause(cause, code, label)
        if self._inflated is not None:
            if last is not None:
                self._inflated.send_text(last)
            self._inflated.send_close(code, reason)
            self._flush(self._inflated)
        else:
            closing = close_frame(code, reason)
            self.transport.write(closing if last is None else text_frame(last) + closing)
        self._await_end()

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455, 7.1.7): the peer is at fault, nothing more from it is understood."""
        if self._flags & CLOSING:
            return
        inflated = self._inflate()
        self._flags |= CLOSING
        self.hub.causes[self.slot] = Cause(close_codes.name_of(code), code)
        inflated.fail(code, reason)
        self._flush(inflated)
        self._await_end()

    def _await_end(self) -> None:
        """Our close frame is written; the peer has its time to answer, and we have to read for that."""
        self._end_pause()
        self.hub.set_deadline(self.slot, self.hub.settings.close_timeout_s)

    def _inflate(self) -> Inflated:
        if self._inflated is None:
            self._inflated = Inflated(self.hub.max_message_bytes)
            if self._flags & CLOSING:
                # It has to know that a close frame is out already, whichever that was.
                self._inflated.send_close(close_codes.NORMAL, "")
                self._inflated.output()
            if self._buffer is not None:
                self._inflated.receive(self._buffer, 0)
                self._buffer = None
        return self._inflated

    def _end_pause(self) -> None:
        """A closing handshake needs the peer's answer, however little it deserves to be read."""
        if self._flags & PAUSED:
            self._flags &= ~PAUSED
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def reset(self) -> None:
        """End the connection with a TCP reset and no close frame; what is not sent yet is lost."""
        self._flags |= CLOSING
        # uvloop's abort() alone sends FIN.
        pair = self.transport.get_extra_info("socket")
        if pair is not None:
            pair.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
