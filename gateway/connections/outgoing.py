"""The way out of one websocket: what is written, when its reading pauses, and how it ends.

The peer's class decides how a close looks: a closing handshake (RFC 6455, 7), or a TCP reset without any close frame.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable
from typing import Final

from gateway.connections.ending import (
    CLOSED_BY_PEER,
    CLOSING,
    GREETING,
    INTERNAL_ERROR,
    PHASE,
    PROTOCOL,
    RESETTING,
    TABLE,
    Cause,
    Ending,
    Step,
    failure,
)
from gateway.connections.hub import Hub
from gateway.wire import close_codes
from gateway.wire.frames import binary_frame, close_frame, payloads_of, ping_frame, text_frame
from gateway.wire.inflated import Inflated
from gateway.wire.socket_end import reset, unsent_bytes

# Why nothing is read now. They share an integer with the phase (ending.py): a connection with nothing special about
# it, which nearly all are nearly always, has the value 0.
PAUSED_PRESSURE: Final = 8  # the session has no room
PAUSED_RATE: Final = 16  # above bytes_per_s
PAUSED_WRITE: Final = 32  # the peer does not read what we send
PAUSED_TURN: Final = 64  # one read held more frames than a turn of the loop deals with
PAUSED_RESET: Final = 128  # it is being reset
PAUSED: Final = PAUSED_PRESSURE | PAUSED_RATE | PAUSED_WRITE | PAUSED_TURN | PAUSED_RESET

# How long a peer has to take in what was written before a reset. A device without a network takes in nothing.
RESET_GRACE_S: Final = 1.0


class Partial:
    """The beginning of a frame that has not come whole. `began_s`: when its first byte came."""

    __slots__ = ("began_s", "data")

    def __init__(self, data: bytes, began_s: float) -> None:
        self.data = bytearray(data)
        self.began_s = began_s


class Outgoing(asyncio.Protocol):
    """Writes, pauses and ends; `Websocket` reads."""

    __slots__ = ("_flags", "_inflated", "_partial", "hub", "slot", "transport")

    transport: asyncio.Transport

    def __init__(self, hub: Hub, slot: int) -> None:
        self.hub = hub
        self.slot = slot
        self._flags = 0
        self._partial: Partial | None = None
        self._inflated: Inflated | None = None

    @abstractmethod
    def resets(self, code: int) -> bool:
        """Whether this peer is reset instead of sent a close frame with `code`."""

    @abstractmethod
    def on_writable(self) -> None:
        """The peer has read what it was slow with."""

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """Answers that are still to be sent before a reset."""

    def _step(self, step: Step) -> None:
        """Go to the phase that follows. Raises KeyError for a step that the table does not have."""
        flags = self._flags
        self._flags = flags & ~PHASE | TABLE[flags & PHASE, step]

    def _decide(self, cause: Cause, code: int = 0, words: str = "") -> Ending:
        """Settle why it ends; a later reason takes the place of an earlier one."""
        before = self.hub.endings.get(self.slot)
        ending = self.hub.endings[self.slot] = Ending(cause, code, words)
        ending.sent_away = before is not None and before.sent_away
        return ending

    # Writing

    def send(self, payload: bytes) -> None:
        """Send a text message."""
        if self._flags & PHASE >= CLOSING:
            return
        if self._inflated is not None:
            self._inflated.send_text(payload)
            self._flush(self._inflated)
        else:
            self.hub.outbox.add(self, text_frame(payload))
        if self._flags & PAUSED_WRITE:
            self._check_slow()

    def send_all(self, payloads: Iterable[bytes]) -> None:
        """Send text messages."""
        for payload in payloads:
            self.send(payload)

    def push(self, frame: bytes) -> bool:
        """Send text frames, which may be for many alike; false: the peer is slow, and nothing was added to what waits.

        After a close frame nothing leaves, and that is no slowness.
        """
        if self._flags or self._inflated is not None:
            if self._flags & PAUSED_WRITE:
                return False
            if self._flags & PHASE >= CLOSING:
                return True
            if self._inflated is not None:
                for payload in payloads_of(frame):
                    self._inflated.send_text(payload)
                self._flush(self._inflated)
                return True
        self.hub.outbox.add(self, frame)
        return True

    def send_binary(self, payload: bytes) -> None:
        """Send a binary message."""
        if self._flags & PHASE >= CLOSING:
            return
        if self._inflated is not None:
            self._inflated.send_binary(payload)
            self._flush(self._inflated)
        else:
            self._write(binary_frame(payload))

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping; not before the first message."""
        if self._flags & PHASE >= GREETING or self.transport.is_closing():
            return
        if self._inflated is not None:
            self._inflated.send_ping(payload)
            self._flush(self._inflated)
        else:
            self._write(ping_frame(payload))

    def _write(self, data: bytes) -> None:
        """It leaves with whatever else is due in this turn of the loop."""
        self.hub.outbox.add(self, data)

    def write_out(self, data: bytes) -> None:
        self.transport.write(data)
        if self._flags & PAUSED_WRITE and self._flags & PHASE < CLOSING:
            self._check_slow()

    def _check_slow(self, more_bytes: int = 0) -> None:
        self.hub.outbox.flush(self)
        if self.transport.get_write_buffer_size() + more_bytes > self.hub.settings.outbound_max_bytes:
            self.fail(close_codes.SLOW_CONSUMER, "too much unsent data")

    def _flush(self, inflated: Inflated) -> None:
        """Write what the Sans-I/O layer wants written; it may have begun to close."""
        data, ends = inflated.output()
        begun = not inflated.open and self._flags & PHASE < CLOSING
        if begun and not inflated.closed_by_peer and self.resets(inflated.close_code):
            # All there is to write is its close frame.
            self.hub.endings.setdefault(self.slot, Ending(PROTOCOL, inflated.close_code))
            self._begin_reset()
            return
        if data:
            self._write(data)
        if begun:
            self._step(Step.CLOSED)
            by_peer = inflated.closed_by_peer
            ending = self.hub.endings.setdefault(
                self.slot, Ending(CLOSED_BY_PEER if by_peer else PROTOCOL, by_peer=by_peer)
            )
            ending.code = ending.code or inflated.close_code
            self._await_end()
        if ends:
            self._end_writing()

    def _end_writing(self) -> None:
        """The peer reads our last frames and ends its side; a close() with unread bytes would reset them away."""
        self.hub.outbox.flush(self)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """The send buffer is above its mark: read no more, and give the peer one heartbeat to catch up."""
        self._pause(PAUSED_WRITE)
        if not self._flags & PHASE:
            self.hub.set_deadline(self.slot, self.hub.settings.heartbeat_s)

    def resume_writing(self) -> None:
        if not self._flags & PHASE:
            self.hub.table.deadline_s[self.slot] = 0
        self._resume(PAUSED_WRITE)
        self.on_writable()

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
            # The silence was our doing: the peer gets a whole heartbeat from here, and so does its message.
            self.hub.table.heard_s[self.slot] = self.hub.now_s
            for part in (self._partial, self._inflated):
                if part is not None:
                    part.began_s = self.hub.now_s
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # Closing

    def close(self, cause: Cause, reason: str, *, code: int = 0, words: str = "", last: bytes | None = None) -> None:
        """Begin the closing handshake; the connection ends when the peer answers, or after `close_timeout_s`.

        `reason` is the text of the close frame, `code` 0 that of the cause, `words` what the log says instead of the
        cause. `last` is a message that leaves before it. A peer that `resets` gets that
        message and no close frame.
        """
        if self._flags & PHASE >= RESETTING:
            return
        code = self._decide(cause, code, words).code
        if self.resets(code):
            if last is not None:
                self.send(last)
            self._begin_reset()
            return
        self._step(Step.CLOSED)
        if self._inflated is not None:
            if last is not None:
                self._inflated.send_text(last)
            self._inflated.send_close(code, reason)
            self._flush(self._inflated)
        else:
            closing = close_frame(code, reason)
            self._write(closing if last is None else text_frame(last) + closing)
        self._await_end()

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455, 7.1.7): the peer is at fault, nothing more from it is understood."""
        if self._flags & PHASE >= RESETTING:
            return
        if self.resets(code):
            self.close(failure(code), reason)
            return
        inflated = self._inflate()
        self._step(Step.CLOSED)
        self._decide(failure(code))
        inflated.fail(code, reason)
        self._flush(inflated)
        self._await_end()

    def failed(self, error: Exception) -> None:
        """This program failed with this connection: it ends, and no other does."""
        if self.hub.error_logs.take(self.hub.now_s):
            self.hub.log.error("connection_failed", exc_info=error)
        try:
            self.close(INTERNAL_ERROR, "internal error")
        except Exception:
            self.transport.abort()

    def _await_end(self) -> None:
        """Our close frame is written; the peer has its time to answer, and we have to read for that."""
        self._end_pause()
        self.hub.set_deadline(self.slot, self.hub.settings.close_timeout_s)

    def _inflate(self) -> Inflated:
        if self._inflated is None:
            self._inflated = Inflated(self.hub.limits.message_bytes, began_s=self.hub.now_s)
            if self._flags & PHASE >= CLOSING:
                # It has to know that a close frame is out already, whichever that was.
                self._inflated.send_close(close_codes.NORMAL, "")
                self._inflated.output()
            if self._partial is not None:
                self._inflated.receive(bytes(self._partial.data), 0)
                self._partial = None
        return self._inflated

    def _deflate(self) -> None:
        """Drop the Sans-I/O layer and what it holds."""
        if self._inflated is not None:
            self._inflated.release()
            self._inflated = None

    def _end_pause(self) -> None:
        """A closing handshake needs the peer's answer, however little it deserves to be read."""
        if self._flags & PAUSED:
            # The rest of a read that was too long for one turn comes before anything else.
            self._flags &= ~PAUSED | PAUSED_TURN
            if not self._flags & PAUSED and not self.transport.is_closing():
                self.transport.resume_reading()

    # Resetting

    def _begin_reset(self) -> None:
        """Read no more, and reset once the answers in flight and what was written are with the peer.

        A reset discards what the kernel has not sent, and what came in meanwhile would be stored without an ack.
        """
        self._deflate()
        self._partial = None
        self._step(Step.RESET)
        self.hub.endings[self.slot].by_reset = True
        self._pause(PAUSED_RESET)
        self.hub.set_deadline(self.slot, RESET_GRACE_S)
        self.hub.wheel.schedule(self.slot, self.hub.now_s + self.hub.tick_s)

    def _go_on_resetting(self, now_s: float) -> None:
        """Look once a tick whether the peer has it all."""
        self.hub.outbox.flush(self)
        unsent = self.transport.get_write_buffer_size() or unsent_bytes(self.transport)
        if now_s >= self.hub.table.deadline_s[self.slot] or not (self.in_flight or unsent):
            self._step(Step.DONE)
            reset(self.transport)
        else:
            self.hub.wheel.schedule(self.slot, now_s + self.hub.tick_s)
