"""One open websocket: one small protocol object on the event loop's transport, and no task, timer or queue.

What nearly every frame is, is read and written here (frames.py); for anything else the connection inflates to the
Sans-I/O layer (inflated.py) and deflates when that is dealt with.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.connections import close_codes
from gateway.connections.close_codes import Fault, fault_of
from gateway.connections.frames import (
    INCOMPLETE,
    PING,
    PING_FRAME,
    TEXT,
    PlainFrame,
    pong_frame,
    read_plain_frame,
    text_frame,
)
from gateway.connections.heartbeat import Due, judge
from gateway.connections.hub import Cause, Hub, Session
from gateway.connections.inflated import Inflated
from gateway.connections.messages import Ack, Goaway, Nack, encode
from gateway.connections.rate import next_arrival
from gateway.connections.registry import Profile
from gateway.locations.event import LocationEvent

if TYPE_CHECKING:
    from gateway.locations.outcome import Durability

# Flags of a connection.
CLOSING: Final = 1  # a close frame of ours is out, or the transport is ending: nothing more is sent or understood
LEAVING: Final = 2  # goaway is out; closes when the acks in flight are
PAUSED_PRESSURE: Final = 4  # the pipeline is full
PAUSED_RATE: Final = 8  # above bytes_per_s
PAUSED_WRITE: Final = 16  # the peer does not read what we send
_PAUSED: Final = PAUSED_PRESSURE | PAUSED_RATE | PAUSED_WRITE

LEAVE_GRACE_S: Final = 2.0
_RESET: Final = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """An open, authenticated websocket. Also the sender that location outcomes are told to."""

    __slots__ = (
        "_buffer",
        "_flags",
        "_in_flight",
        "_inflated",
        "device",
        "hub",
        "profile",
        "session",
        "slot",
        "transport",
    )

    def __init__(self, hub: Hub, slot: int, profile: Profile, device: str, session: Session) -> None:
        self.hub = hub
        self.slot = slot
        self.profile = profile
        self.device = device
        self.session = session
        self._flags = 0
        self._in_flight = 0
        self._buffer: bytes | None = None
        self._inflated: Inflated | None = None

    def open(self, transport: asyncio.Transport, inflated: Inflated | None, rest: bytes) -> None:
        """Take over from the handshake; `rest` are bytes that came glued to it."""
        self.transport = transport
        self._inflated = inflated
        outbound = self.hub.settings.outbound_max_bytes
        if outbound < 131_072:
            transport.set_write_buffer_limits(outbound // 2)
        transport.set_protocol(self)
        self.hub.holders[self.slot] = self
        self.session.opened(self)
        if rest:
            self.data_received(rest)

    # Reading

    def data_received(self, data: bytes) -> None:
        hub, slot = self.hub, self.slot
        table, now_s = hub.table, hub.now_s
        table.heard_s[slot] = now_s
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
            frame = read_plain_frame(data, position, hub.max_message_bytes)
            if isinstance(frame, PlainFrame):
                position = frame.end
                if frame.opcode == TEXT:
                    self._text(frame.payload)
                elif frame.opcode == PING:
                    self.transport.write(pong_frame(frame.payload))
            elif frame is INCOMPLETE:
                self._buffer = data[position:] if position else data
                return
            else:
                self._inflated = Inflated(hub.max_message_bytes)

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
                self._fail(close_codes.INVALID_DATA, error.reason)
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
                self._fail(close_codes.RATE, "more messages a second than allowed")
                return
        self.session.text(self, payload)

    def eof_received(self) -> bool | None:
        """The peer will send nothing more, and the loop closes when it has sent what is left: that may take forever."""
        self._flags |= CLOSING
        if self._inflated is not None:
            self._inflated.receive_eof()
        self.hub.set_deadline(self.slot, self.hub.settings.close_timeout_s)
        return None

    # Writing

    def send(self, payload: bytes) -> None:
        """Send a text message. What is sent within one turn of the loop leaves in one system call."""
        if self._flags & CLOSING:
            return
        if self._inflated is not None:
            self._inflated.send_text(payload)
            self._flush(self._inflated)
        else:
            self.transport.write(text_frame(payload))
        if self._flags & PAUSED_WRITE:
            self._check_slow()

    def _check_slow(self) -> None:
        if self.transport.get_write_buffer_size() > self.hub.settings.outbound_max_bytes:
            self._fail(close_codes.SLOW_CONSUMER, "too much unsent data")

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
            # The peer reads our last frames and ends its side; a close() with unread bytes would reset them away.
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
        if not self._flags & _PAUSED and not self.transport.is_closing():
            self.transport.pause_reading()
        self._flags |= why

    def _resume(self, why: int) -> None:
        if not self._flags & why:
            return
        self._flags &= ~why
        if not self._flags & _PAUSED:
            # The silence was our doing: the peer gets a whole heartbeat from here.
            self.hub.table.heard_s[self.slot] = self.hub.now_s
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # Closing

    def close(self, code: int, reason: str, cause: str, label: str = "") -> None:
        """Begin the closing handshake; the connection ends when the peer answers, or after `close_timeout_s`."""
        if self._flags & CLOSING:
            return
        self._flags |= CLOSING
        self.hub.causes[self.slot] = Cause(cause, code, label)
        inflated = self._inflate()
        inflated.send_close(code, reason)
        self._flush(inflated)
        self._end_pause()
        self.hub.set_deadline(self.slot, self.hub.settings.close_timeout_s)

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455, 7.1.7): the peer is at fault, nothing more from it is understood."""
        if self._flags & CLOSING:
            return
        self._flags |= CLOSING
        self.hub.causes[self.slot] = Cause(close_codes.name_of(code), code)
        inflated = self._inflate()
        inflated.fail(code, reason)
        self._flush(inflated)
        self._end_pause()
        self.hub.set_deadline(self.slot, self.hub.settings.close_timeout_s)

    def fail(self, code: int, reason: str) -> None:
        """Close because of what the peer did; `code` says what."""
        self._fail(code, reason)

    def _inflate(self) -> Inflated:
        if self._inflated is None:
            self._inflated = Inflated(self.hub.max_message_bytes)
            if self._buffer is not None:
                self._inflated.receive(self._buffer, 0)
                self._buffer = None
        return self._inflated

    def _end_pause(self) -> None:
        """A closing handshake needs the peer's answer, however little it deserves to be read."""
        if self._flags & _PAUSED:
            self._flags &= ~_PAUSED
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def leave(
        self, announced: str, cause: str, code: int = 0, reconnect_after_ms: int | None = None, label: str = ""
    ) -> None:
        """A planned close: goaway, then the close in the class's style once the acks in flight are out (at most 2 s).

        `code` 0 is the class's own; `reconnect_after_ms` None is what the class asks for and up to a second more.
        """
        if self._flags & (CLOSING | LEAVING):
            return
        if reconnect_after_ms is None:
            least_s = self.hub.device_class(self.profile.device_class).reconnect_after_s
            reconnect_after_ms = int(least_s * 1000) + self.hub.chance.randrange(1000)
        self.send(encode(Goaway(announced, reconnect_after_ms)))  # type: ignore[arg-type]
        if self._flags & CLOSING:
            return
        self._flags |= LEAVING
        self.hub.causes[self.slot] = Cause(cause, code, label)
        if self._in_flight or announced == "token_expired":
            self.hub.set_deadline(self.slot, LEAVE_GRACE_S)
        else:
            self._finish_leaving()

    def stay(self) -> None:
        """The reason to leave is gone: a new token came in time."""
        if self._flags & LEAVING and self.hub.causes[self.slot].code == close_codes.TOKEN:
            self._flags &= ~LEAVING
            del self.hub.causes[self.slot]
            self.hub.table.deadline_s[self.slot] = 0

    def _finish_leaving(self) -> None:
        cause = self.hub.causes[self.slot]
        style, _, code = self.hub.device_class(self.profile.device_class).close.partition(":")
        # A replaced device must learn that it is: after a reset it would come back and push out its successor.
        if style == "abort" and cause.code != close_codes.REPLACED:
            cause.code = cause.code or close_codes.ABNORMAL
            self.reset()
        else:
            self.close(cause.code or int(code), cause.reason, cause.reason, cause.label)

    def reset(self) -> None:
        """End the connection with a TCP reset and no close frame; what is not sent yet is lost."""
        self._flags |= CLOSING
        # uvloop's abort() alone sends FIN.
        pair = self.transport.get_extra_info("socket")
        if pair is not None:
            pair.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        hub = self.hub
        self._flags |= CLOSING
        cause = hub.causes.get(self.slot) or Cause(_network_reason(exc), close_codes.ABNORMAL)
        code = cause.code or close_codes.ABNORMAL
        if self._inflated is not None:
            self._inflated.release()
            self._inflated = None
        fault = Fault.PLAN if self._flags & LEAVING else fault_of(code)
        hub.registry.remove(self, hub.time_ms, code, cause.reason, fault)
        if hub.registry.total == 0:
            hub.emptied.set()
        hub.disconnects[cause.label, code, fault] += 1
        hub.log.info(
            "disconnect",
            account=self.profile.account.name,
            device=self.device,
            reason=cause.reason,
            code=code,
            fault=fault,
        )
        hub.admission.open -= 1
        self.session.closed(self)
        hub.free_slot(self.slot)

    # Time

    def look(self, now_s: float) -> None:
        """The wheel has come to this connection."""
        hub, slot = self.hub, self.slot
        table = hub.table
        if self._flags & PAUSED_RATE and table.bytes_s[slot] - now_s <= hub.bytes_burst_s:
            self._resume(PAUSED_RATE)
        if self._flags & _PAUSED:
            table.heard_s[slot] = now_s
        planned_s = 0.0 if self._flags & (LEAVING | CLOSING) else table.planned_s[slot]
        due, next_s = judge(now_s, table.heard_s[slot], hub.settings.heartbeat_s, planned_s, table.deadline_s[slot])
        if self._flags & PAUSED_RATE:
            next_s = min(next_s, table.bytes_s[slot] - hub.bytes_burst_s)
        hub.wheel.schedule(slot, next_s)
        if due is Due.PING:
            self._ping()
        elif due is Due.DEAD:
            self._dead()
        elif due is Due.DEADLINE:
            table.deadline_s[slot] = 0
            self._deadline()
        elif due is Due.LEAVE:
            self._planned()

    def _ping(self) -> None:
        if self._flags & CLOSING or self.transport.is_closing():
            return
        if self._inflated is not None:
            self._inflated.send_ping()
            self._flush(self._inflated)
        else:
            self.transport.write(PING_FRAME)

    def _dead(self) -> None:
        """No answer to a ping: the close frame says so to a peer that can still hear."""
        if self._flags & CLOSING:
            self.transport.abort()
        else:
            self.close(close_codes.HEARTBEAT_TIMEOUT, "no answer to a ping", "heartbeat_timeout")

    def _deadline(self) -> None:
        if self._flags & CLOSING:
            self.transport.abort()
        elif self._flags & LEAVING:
            self._finish_leaving()
        elif self._flags & PAUSED_WRITE:
            self._fail(close_codes.SLOW_CONSUMER, "nothing was read for a heartbeat")

    def _planned(self) -> None:
        """The age is reached, or the token is about to end."""
        hub, slot = self.hub, self.slot
        hub.table.planned_s[slot] = 0
        if hub.is_aged(slot):
            self.leave("max_age", "max_age")
        else:
            self.leave("token_expired", "token_expired", close_codes.TOKEN)

    # Outcomes of location events

    @property
    def in_flight(self) -> int:
        """Events whose outcome is not known yet."""
        return self._in_flight

    def submitted(self, events: int, pause: bool) -> None:
        """So many more events wait for their outcome; `pause`: read no more until told so."""
        self._in_flight += events
        if pause:
            self._pause(PAUSED_PRESSURE)

    def acknowledge(self, events: Sequence[LocationEvent], durability: Durability) -> None:
        """These events are durable."""
        self._in_flight -= len(events)
        self._remember(events)
        self.send(encode(Ack([event.id for event in events], durability.value)))
        self._settled()

    def refuse(self, ids: Sequence[str], code: str, message: str, retry_after_ms: int | None) -> None:
        """These events were not taken."""
        self._in_flight -= len(ids)
        self.send(encode(Nack(ids, code, message, retry_after_ms)))
        self._settled()

    def resume_reading(self) -> None:
        """The pipeline has room again."""
        self._resume(PAUSED_PRESSURE)

    def _settled(self) -> None:
        if self._in_flight == 0 and self._flags & LEAVING and not self._flags & CLOSING:
            cause = self.hub.causes[self.slot]
            if cause.code != close_codes.TOKEN:
                self._finish_leaving()

    def _remember(self, events: Sequence[LocationEvent]) -> None:
        table, slot = self.hub.table, self.slot
        newest = max(events, key=lambda event: event.time)
        if newest.time >= table.position_ms[slot]:
            table.position_ms[slot] = newest.time
            table.lat[slot] = newest.lat
            table.lon[slot] = newest.lon


def _network_reason(exc: Exception | None) -> str:
    if exc is None:
        return "eof"
    if isinstance(exc, ConnectionResetError | BrokenPipeError):
        return "reset"
    if isinstance(exc, TimeoutError):
        return "timed_out"
    return "broken"
