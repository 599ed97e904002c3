"""The session `heiwa.v1.json`: does what a message asks for (session.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.connections import close_codes
from gateway.connections.connection import Connection
from gateway.connections.messages import MAX_EVENTS, Authenticated, Welcome, encode
from gateway.connections.session import Invalid, Renew, Reply, Store, interpret
from gateway.connections.uuid7 import text_of
from gateway.errors import TokenError
from gateway.locations.outcome import Pressure

if TYPE_CHECKING:
    from gateway.locations.pipeline import LocationPipeline

# So many invalid messages on one connection, and it is closed with 4400: what it sends will not get better.
MAX_STRIKES = 20


class DeviceSession:
    """One object for all connections; what differs between them is in the connection."""

    def __init__(self, pipeline: LocationPipeline) -> None:
        self._pipeline = pipeline

    def opened(self, connection: Connection) -> bytes:
        hub, slot = connection.hub, connection.slot
        return encode(
            Welcome(
                connection=text_of(hub.table.id_high[slot], hub.table.id_low[slot]),
                time=hub.clock.time_ms(),
                heartbeat_s=hub.settings.heartbeat_s,
                max_message_bytes=hub.max_message_bytes,
                max_events=MAX_EVENTS,
            )
        )

    def text(self, connection: Connection, payload: bytes) -> None:
        action = interpret(payload, connection.profile.may_write, connection.hub.time_ms)
        if isinstance(action, Store):
            if connection.hub.strikes:
                connection.hub.strikes.pop(connection.slot, None)
            for nack in action.refused:
                connection.send(encode(nack))
            if action.events:
                self._submit(connection, action)
        elif isinstance(action, Reply):
            connection.send(action.message)
        elif isinstance(action, Renew):
            self._renew(connection, action.token)
        else:
            self._invalid(connection, action)

    def closed(self, connection: Connection) -> None:
        self._pipeline.forget(connection)

    def _submit(self, connection: Connection, action: Store) -> None:
        # Counted before: above the second mark the refusal comes from within submit.
        connection.submitted(len(action.events), pause=False)
        account = connection.profile.account.name
        if self._pipeline.submit(connection, account, connection.device, action.events) is Pressure.PAUSE:
            connection.submitted(0, pause=True)

    def _renew(self, connection: Connection, token: str) -> None:
        hub = connection.hub
        try:
            identity = hub.authenticator.verify(token)
        except TokenError as error:
            connection.close(close_codes.TOKEN, str(error)[:120], "token")
            return
        if (identity.account, identity.device) != (connection.profile.account.name, connection.device):
            connection.close(close_codes.FORBIDDEN, "the token is of another device or account", "forbidden")
            return
        connection.profile = hub.registry.profile(identity)
        hub.table.expires_ms[connection.slot] = int(identity.expires_s * 1000)
        connection.stay()
        hub.plan_end(connection.slot)
        connection.send(encode(Authenticated(int(identity.expires_s * 1000))))

    def _invalid(self, connection: Connection, action: Invalid) -> None:
        connection.send(action.message)
        strikes = connection.hub.strikes
        count = strikes[connection.slot] = strikes.get(connection.slot, 0) + 1
        if count >= MAX_STRIKES:
            connection.fail(close_codes.INVALID_MESSAGES, "repeated invalid messages")
