"""One connected device: an open, authenticated websocket with its limits in time and its events under way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Protocol

from gateway.connections.ending import (
    CLOSING,
    EXPIRING,
    GREETING,
    HEARTBEAT_TIMEOUT,
    LEAVING,
    MAX_AGE,
    PHASE,
    REPLACED_ELSEWHERE,
    RESETTING,
    STAYS,
    TOKEN_EXPIRED,
    UNANNOUNCED,
    Cause,
    Ending,
    Step,
    breakage,
)
from gateway.connections.heartbeat import Due, judge
from gateway.connections.hub import Hub
from gateway.connections.info import ConnectionInfo, DisconnectInfo
from gateway.connections.outgoing import PAUSED, PAUSED_PRESSURE, PAUSED_RATE, PAUSED_WRITE
from gateway.connections.registry import Profile
from gateway.connections.websocket import Websocket
from gateway.settings.device_classes import DeviceClass
from gateway.wire import close_codes
from gateway.wire.close_codes import Fault, fault_of
from gateway.wire.frames import payload_bytes, text_frame
from gateway.wire.inflated import Inflated
from gateway.wire.uuid7 import text_of, time_ms_of

# With a tick of the wheel less than the two seconds after which a gateway that ends cuts what is left.
LEAVE_GRACE_S: Final = 1.5
RECONNECT_SPREAD_S: Final = 1.0
# Many firmware clients lose what comes in the packet of the 101, or read it as the end. A tick of the wheel comes on
# top.
GREETING_S: Final = 0.3


class Session(Protocol):
    """What a subprotocol does with its connections; one object serves all of them."""

    def opened(self, connection: Connection) -> None:
        """It is open. Nothing may be sent here: the answer 101 is not out yet."""
        ...

    def greeting(self, connection: Connection) -> bytes | None:
        """The first message that it is sent; None: there is none."""
        ...

    def goaway(self, reason: str, reconnect_after_ms: int) -> bytes:
        """The announcement of a planned close: why, and for how long to stay away."""
        ...

    def text(self, connection: Connection, payload: bytes) -> None: ...

    def binary(self, connection: Connection, payload: bytes) -> None: ...

    def closed(self, connection: Connection) -> None: ...

    def writable(self, connection: Connection) -> None:
        """It was slow, and takes messages again."""
        ...


class Connection(Websocket):
    """What becomes of its messages is the session's business; it knows how many answers are still to be sent."""

    __slots__ = ("_in_flight", "device", "profile", "session")

    def __init__(self, hub: Hub, slot: int, profile: Profile, device: str, session: Session) -> None:
        super().__init__(hub, slot)
        self.profile = profile
        self.device = device
        self.session = session
        self._in_flight = 0

    def open(self, transport: asyncio.Transport, inflated: Inflated | None, answer: bytes, rest: bytes) -> None:
        """Take over from the handshake; `answer` ends it, `rest` are bytes that came glued to it."""
        self.transport = transport
        self._inflated = inflated
        self._flags = GREETING
        outbound = self.hub.settings.outbound_max_bytes
        if outbound < 131_072:
            transport.set_write_buffer_limits(outbound // 2)
        transport.set_protocol(self)
        self.hub.holders[self.slot] = self
        transport.write(answer)
        self.hub.set_deadline(self.slot, min(GREETING_S, self.hub.settings.heartbeat_s))
        self.session.opened(self)
        if rest:
            self.data_received(rest)

    def greet(self) -> None:
        """The first message, with the first one of the peer or `GREETING_S` after the handshake."""
        hub = self.hub
        if self._flags & PHASE == GREETING:
            self._step(Step.GREETED)
        # The first ping comes at a phase of its own: after a mass reconnect they do not go out together.
        hub.set_deadline(self.slot, hub.chance.uniform(0, hub.settings.heartbeat_s))
        greeting = self.session.greeting(self)
        if greeting is not None:
            self.send(greeting)
        if self._flags & PHASE == UNANNOUNCED:
            self._announce()

    def on_message(self, payload: bytes, binary: bool) -> None:
        if binary:
            self.session.binary(self, payload)
        else:
            self.session.text(self, payload)

    def on_writable(self) -> None:
        self.session.writable(self)

    @property
    def account_name(self) -> str:
        """Whose it is."""
        return self.profile.account.name

    def may(self, scope: str) -> bool:
        """Whether its token allows what `scope` stands for."""
        return scope in self.profile.scopes or "admin" in self.profile.scopes

    @property
    def device_class(self) -> DeviceClass:
        """What the settings say about devices like this one."""
        return self.hub.device_class(self.profile.device_class)

    def resets(self, code: int) -> bool:
        if self.device_class.close != "abort":
            return False
        # A replaced device must learn that it is: after a reset it would come back and push out its successor. When
        # another gateway says so, this one may be the living one, and would never come back after a close frame.
        ending = self.hub.endings.get(self.slot)
        return code != close_codes.REPLACED or (ending is not None and ending.cause is REPLACED_ELSEWHERE)

    # Leaving

    @property
    def stays(self) -> bool:
        """Whether nobody has asked it to leave, and it is not ending."""
        return self._flags & PHASE in STAYS

    @property
    def greets(self) -> bool:
        """Whether its first message is still to be sent."""
        return self._flags & PHASE in (GREETING, UNANNOUNCED)

    @property
    def busy(self) -> bool:
        """Whether events wait for their outcome, or part of a message is here."""
        return self.message_began_s is not None or self._in_flight > 0

    def leave(self, cause: Cause, *, code: int = 0, words: str = "", more_s: float | None = None) -> None:
        """A planned close: goaway, then the close in the class's style once the acks in flight are out (at most 2 s).

        `code` 0 is the cause's, else the class's own; `words` are an operator's own. The device is told to stay away
        for what its class asks and `more_s` longer; None: up to a second, drawn for it alone.
        """
        if not self.stays:
            return
        hub = self.hub
        more_s = hub.chance.uniform(0, RECONNECT_SPREAD_S) if more_s is None else more_s
        away_s = self.device_class.reconnect_after_s + more_s
        goaway = self.session.goaway(cause.announced, int(away_s * 1000 / hub.hurry))
        hub.endings[self.slot] = Ending(cause, code, words, goaway=goaway)
        hub.leaving += 1
        if self._flags & PHASE == GREETING:
            self._step(Step.DEFERRED)
        else:
            self._announce()

    def _announce(self) -> None:
        """Send the goaway; close with it, unless something is still under way."""
        ending = self.hub.endings[self.slot]
        goaway, ending.goaway = ending.goaway, None
        if goaway is None:
            return
        expires = ending.cause is TOKEN_EXPIRED
        self._step(Step.EXPIRES if expires else Step.ASKED)
        if self._in_flight == 0 and not expires:
            if self._flags & PAUSED_WRITE:
                self._check_slow(len(text_frame(goaway)))
            if self._flags & PHASE < RESETTING:
                self._finish_leaving(goaway)
                return
        else:
            self.send(goaway)
        if self._flags & PHASE >= RESETTING:
            # It did not even take the goaway: that is why it ends.
            self._is_not_sent_away(self.hub.endings[self.slot])
        else:
            self.hub.set_deadline(self.slot, LEAVE_GRACE_S)

    def stay(self) -> None:
        """The reason to leave is gone: a new token came in time."""
        if self._flags & PHASE == EXPIRING:
            self._step(Step.RENEWED)
            self._is_not_sent_away(self.hub.endings.pop(self.slot))
            self.hub.table.deadline_s[self.slot] = 0

    def _is_not_sent_away(self, ending: Ending) -> None:
        ending.sent_away = False
        self.hub.leaving -= 1

    def _finish_leaving(self, goaway: bytes | None = None) -> None:
        """Close in the class's style; `goaway` None: it is out already."""
        ending = self.hub.endings[self.slot]
        style, _, code = self.device_class.close.partition(":")
        own_code = close_codes.ABNORMAL if style == "abort" else int(code)
        self.close(ending.cause, ending.reason, code=ending.code or own_code, words=ending.words, last=goaway)

    def connection_lost(self, exc: Exception | None) -> None:
        hub = self.hub
        ending = hub.endings.get(self.slot) or Ending(breakage(exc))
        code = ending.code or close_codes.ABNORMAL
        if ending.sent_away:
            hub.leaving -= 1
        elif ending.by_reset and code in close_codes.REPEATS:
            hub.admission.flaps.hold_off(self.profile.account.name, self.device, hub.clock.monotonic_s())
        self._step(Step.DONE)
        self._deflate()
        hub.outbox.drop(self)
        fault = Fault.PLAN if ending.sent_away else fault_of(code, by_peer=ending.by_peer)
        hub.registry.remove(self, DisconnectInfo(hub.clock.time_ms(), code, ending.reason, fault))
        if hub.registry.total == 0:
            hub.emptied.set()
        hub.disconnects[ending.cause.name, code, fault] += 1
        hub.log.info(
            "disconnect",
            account=self.profile.account.name,
            device=self.device,
            reason=ending.reason,
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
        table, heartbeat_s = hub.table, hub.settings.heartbeat_s
        phase = self._flags & PHASE
        if phase == RESETTING:
            self._go_on_resetting(now_s)
            return
        if self._flags & PAUSED_RATE and table.bytes_s[slot] - now_s <= hub.limits.bytes_burst_s:
            self._resume(PAUSED_RATE)
        if self._flags & PAUSED:
            table.heard_s[slot] = now_s
        planned_s = table.planned_s[slot] if phase in STAYS else 0.0
        due, next_s = judge(
            now_s, table.heard_s[slot], heartbeat_s, planned_s, table.deadline_s[slot], hub.ping_early_s
        )
        if self._flags & PAUSED_RATE:
            next_s = min(next_s, table.bytes_s[slot] - hub.limits.bytes_burst_s)
        began_s = None if self._flags & PAUSED or phase >= CLOSING else self.message_began_s
        if began_s is not None:
            next_s = min(next_s, began_s + heartbeat_s)
        hub.wheel.schedule(slot, next_s)
        if began_s is not None and now_s >= began_s + heartbeat_s:
            self.fail(close_codes.HEARTBEAT_TIMEOUT, "a message did not end within a heartbeat")
        elif due is Due.PING:
            self.ping(bytes(self.device_class.ping_bytes))
        elif due is Due.DEAD:
            self._dead()
        elif due is Due.DEADLINE:
            table.deadline_s[slot] = 0
            self._deadline()
        elif due is Due.LEAVE:
            self._planned()

    def _dead(self) -> None:
        """No answer to a ping: the close frame says so to a peer that can still hear."""
        if self._flags & PHASE >= CLOSING:
            self.transport.abort()
        else:
            self.close(HEARTBEAT_TIMEOUT, "no answer to a ping")

    def _deadline(self) -> None:
        phase = self._flags & PHASE
        if phase >= CLOSING:
            self.transport.abort()
        elif phase in (GREETING, UNANNOUNCED):
            self.greet()
        elif phase in (LEAVING, EXPIRING):
            self._finish_leaving()
        elif self._flags & PAUSED_WRITE:
            self.fail(close_codes.SLOW_CONSUMER, "nothing was read for a heartbeat")
        else:
            # Nothing is under way but the phase of the first ping.
            self.ping(bytes(self.device_class.ping_bytes))

    def _planned(self) -> None:
        """The age is reached, or the token is about to end."""
        hub, slot = self.hub, self.slot
        hub.table.planned_s[slot] = 0
        if hub.is_aged(slot):
            self.leave(MAX_AGE)
        else:
            self.leave(TOKEN_EXPIRED)

    # What is told about it

    def describe(self) -> ConnectionInfo:
        """It, as the API shows it."""
        hub, table, slot = self.hub, self.hub.table, self.slot
        connected_ms = time_ms_of(table.id_high[slot])
        # Its heartbeat's phase lets a new connection begin with a silence that never was.
        heard_ms = max(connected_ms, hub.time_ms - int((hub.now_s - table.heard_s[slot]) * 1000))
        return ConnectionInfo(
            connection=text_of(table.id_high[slot], table.id_low[slot]),
            device=self.device,
            device_class=self.profile.device_class,
            connected_ms=connected_ms,
            address=table.address(slot),
            heard_ms=heard_ms,
            expires_ms=table.expires_ms[slot],
            gateway=hub.gateway,
        )

    def position(self) -> dict[str, Any] | None:
        """The latest position that it sent and got acknowledged; None: none yet."""
        table, slot = self.hub.table, self.slot
        if table.position_ms[slot] == 0:
            return None
        return {"device": self.device, "time": table.position_ms[slot], "lat": table.lat[slot], "lon": table.lon[slot]}

    # Answers that are owed

    @property
    def in_flight(self) -> int:
        """Answers that are still to be sent before it may leave."""
        return self._in_flight

    @property
    def max_payload_bytes(self) -> int:
        """The largest message that this class of devices can read."""
        return payload_bytes(self.device_class.max_frame_bytes)

    def expect(self, answers: int) -> None:
        """The session has taken on work that leads to this number of answers."""
        self._in_flight += answers

    def answer(self, payloads: Iterable[bytes], answers: int) -> None:
        """Send these messages; they are that number of the `answers` in flight."""
        self._in_flight -= answers
        self.send_all(payloads)
        if self._in_flight == 0 and self._flags & PHASE == LEAVING:
            self._finish_leaving()

    def pause_reading(self) -> None:
        """The session has no room: read no more until `resume_reading`."""
        self._pause(PAUSED_PRESSURE)

    def resume_reading(self) -> None:
        """The session has room again."""
        self._resume(PAUSED_PRESSURE)
