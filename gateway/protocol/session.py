"""The session `heiwa.v1.json`: does what a message asks for (requests.py)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from gateway.channels.commands import Outcome, Progress, Settled
from gateway.channels.device_channel import DeviceChannel
from gateway.channels.local import LocalCourier
from gateway.channels.senders import Senders, Wish
from gateway.channels.subscribing import Subscribing
from gateway.connections.connection import Connection
from gateway.connections.ending import DUPLICATE, FORBIDDEN, REPLACED, TOKEN
from gateway.errors import KeysUnknownError, TokenError
from gateway.identity.identity import Identity
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability, Refusal
from gateway.locations.pipeline import LocationPipeline
from gateway.protocol.answers import merged, split
from gateway.protocol.messages import (
    MAX_EVENTS,
    Ack,
    Authenticated,
    Command,
    CommandMessage,
    Error,
    Goaway,
    Nack,
    ResultMessage,
    Welcome,
    encode,
)
from gateway.protocol.requests import Renew, Reply, Report, Result, Send, Store, Subscribe, Unsubscribe, interpret
from gateway.wire import close_codes
from gateway.wire.uuid7 import text_of

# After this many invalid messages a connection is closed with 4400: what it sends will not get better.
MAX_STRIKES = 20
# A UUID with its quotes and comma, and the frame that is large enough for no batch to be made smaller for it.
_BYTES_OF_AN_ID = 40
_FRAME_OF_ALL_BYTES = 16_384


class Tokens(Protocol):
    """Checks tokens."""

    def verify(self, token: str) -> Identity:
        """Raises TokenError, or KeysUnknownError when it cannot be told now."""


class DeviceSession:
    """One object for all connections; what differs between them is in the connection."""

    def __init__(
        self,
        pipeline: LocationPipeline,
        courier: LocalCourier,
        channels: Subscribing,
        devices: DeviceChannel,
        senders: Senders,
        tokens: Tokens,
    ) -> None:
        self._pipeline = pipeline
        self._courier = courier
        self._channels = channels
        self._devices = devices
        self._senders = senders
        self._tokens = tokens
        # By slot: messages of which nothing could be taken.
        self._strikes: dict[int, int] = {}

    def opened(self, connection: Connection) -> None:
        self._devices.connection_changed(connection.account_name, connection.device, connection.slot)

    def greeting(self, connection: Connection) -> bytes:
        hub, slot = connection.hub, connection.slot
        return encode(
            Welcome(
                connection=text_of(hub.table.id_high[slot], hub.table.id_low[slot]),
                time=hub.clock.time_ms(),
                heartbeat_s=hub.settings.heartbeat_s,
                max_message_bytes=hub.limits.message_bytes,
                max_events=_max_events(connection.device_class.max_frame_bytes),
            )
        )

    def goaway(self, reason: str, reconnect_after_ms: int) -> bytes:
        return encode(Goaway(reason, reconnect_after_ms))  # type: ignore[arg-type]

    def text(self, connection: Connection, payload: bytes) -> None:
        account = connection.profile.account.name
        judge = partial(self._pipeline.times.judge, account, connection.device)
        action = interpret(payload, connection.profile.may_write, connection.hub.time_ms, judge)
        if isinstance(action, Store):
            if action.refused:
                for nack in merged(action.refused):
                    connection.send_all(split(nack, connection.max_payload_bytes))
            if action.events:
                if self._strikes:
                    self._strikes.pop(connection.slot, None)
                self._submit(connection, action.events)
            elif all(nack.code == "invalid" for nack in action.refused):
                self._strike(connection)
        elif isinstance(action, Reply):
            connection.send(action.message)
        elif isinstance(action, Renew):
            self._renew(connection, action.token)
        elif isinstance(action, Report):
            progress = Progress(action.message.percent, action.message.message)
            self._courier.report(connection, action.message.command, progress)
        elif isinstance(action, Result):
            self._courier.result(connection, action.message.command, _settled(action.message))
        elif isinstance(action, Send):
            self._senders.send(connection, _wish(action.message))
        elif isinstance(action, Subscribe):
            self._channels.subscribe(connection, action.message.channel, action.message.after)
        elif isinstance(action, Unsubscribe):
            self._channels.unsubscribe(connection, action.channel)
        else:
            connection.send(action.message)
            self._strike(connection)

    def binary(self, connection: Connection, payload: bytes) -> None:
        connection.fail(close_codes.UNSUPPORTED_DATA, "only text frames are understood")

    def closed(self, connection: Connection) -> None:
        self._pipeline.forget(connection)
        self._courier.closed(connection)
        self._senders.closed(connection)
        self._channels.closed(connection)
        self._devices.connection_changed(connection.account_name, connection.device, connection.slot)
        self._strikes.pop(connection.slot, None)

    def writable(self, connection: Connection) -> None:
        self._channels.writable(connection)

    def _submit(self, connection: Connection, events: list[LocationEvent]) -> None:
        account = connection.profile.account.name
        submitted = self._pipeline.submit(self, connection, account, connection.device, events)
        if submitted.refusal is None:
            connection.expect(len(events))
        else:
            connection.send_all(_nack([event.id for event in events], submitted.refusal, connection))
        if submitted.pause:
            connection.pause_reading()

    # Outcomes

    def acknowledge(self, connection: Connection, events: Sequence[LocationEvent], durability: Durability) -> None:
        """These events are durable; the newest of them is where the device is."""
        newest = events[0] if len(events) == 1 else max(events, key=_time)
        _remember(connection, newest)
        self._devices.moved(connection.profile.account.name, connection.device, events)
        ack = Ack([event.id for event in events], durability)
        if len(events) == 1:
            # As nearly all are; it cannot be split.
            connection.answer((encode(ack),), 1)
        else:
            connection.answer(split(ack, connection.max_payload_bytes), len(events))

    def refuse(self, connection: Connection, ids: Sequence[str], refusal: Refusal) -> None:
        """These events were not taken."""
        connection.answer(_nack(ids, refusal, connection), len(ids))

    def resume(self, connection: Connection) -> None:
        """The pipeline has room again."""
        connection.resume_reading()

    def _renew(self, connection: Connection, token: str) -> None:
        hub = connection.hub
        try:
            identity = self._tokens.verify(token)
        except KeysUnknownError as error:
            # The old token still holds; the device may show the new one again.
            connection.send(encode(Error("unavailable", str(error))))
            return
        except TokenError as error:
            connection.close(TOKEN, str(error)[:120])
            return
        if (identity.account, identity.device) != (connection.profile.account.name, connection.device):
            connection.close(FORBIDDEN, "the token is of another device or account")
            return
        # A class that follows from the User-Agent is not in the token.
        identity = identity._replace(device_class=identity.device_class or connection.profile.device_class)
        profile = hub.registry.profile(identity)
        if profile.exclusive and not connection.profile.exclusive and not self._displace_rivals(connection):
            connection.close(DUPLICATE, "this device has another connection that may send")
            return
        connection.profile = profile
        hub.registry.changed(connection)
        hub.table.expires_ms[connection.slot] = int(identity.expires_s * 1000)
        connection.stay()
        hub.plan_end(connection.slot)
        connection.send(encode(Authenticated(int(identity.expires_s * 1000))))
        self._channels.renewed(connection)

    def _displace_rivals(self, connection: Connection) -> bool:
        """The new token makes this the connection of its device that sends; false: another one is, and stays."""
        hub = connection.hub
        rivals = hub.registry.rivals(connection.profile.account.name, connection.device)
        if hub.settings.duplicates == "replace":
            for rival in rivals:
                rival.leave(REPLACED)
        return hub.settings.duplicates != "reject" or not rivals

    def _strike(self, connection: Connection) -> None:
        """Nothing of a message could be taken."""
        count = self._strikes[connection.slot] = self._strikes.get(connection.slot, 0) + 1
        if count >= MAX_STRIKES:
            connection.fail(close_codes.INVALID_MESSAGES, "repeated invalid messages")


def _nack(ids: Sequence[str], refusal: Refusal, connection: Connection) -> list[bytes]:
    return split(Nack(ids, *refusal), connection.max_payload_bytes)


def _time(event: LocationEvent) -> int:
    return event.time


def _remember(connection: Connection, newest: LocationEvent) -> None:
    table, slot = connection.hub.table, connection.slot
    if newest.time >= table.position_ms[slot]:
        table.position_ms[slot] = newest.time
        table.lat[slot] = newest.lat
        table.lon[slot] = newest.lon


def _settled(result: ResultMessage) -> Settled:
    if result.ok:
        return Settled(Outcome.DONE, result.value)
    return Settled(Outcome.FAILED, result.error)


def _wish(message: CommandMessage) -> Wish:
    return Wish(message.id, message.device, message.name, message.args, message.deadline_ms, message.idempotent)


def command_message(command: str, name: str, args: Any, deadline_ms: int) -> bytes:
    """How `heiwa.v1.json` writes a command."""
    return encode(Command(command, name, args, deadline_ms))


def _max_events(max_frame_bytes: int) -> int:
    """Events in one message whose ids fit one ack, for devices that can take small frames only."""
    return MAX_EVENTS if max_frame_bytes >= _FRAME_OF_ALL_BYTES else max(1, max_frame_bytes // _BYTES_OF_AN_ID)
