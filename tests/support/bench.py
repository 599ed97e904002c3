"""Connections without sockets: a hub on a fake clock, sessions that remember, and connections opened on it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from websockets.typing import Subprotocol

from gateway.connections.accepting import Accepting
from gateway.connections.admission import admission
from gateway.connections.connection import Connection, Session
from gateway.connections.door import Door
from gateway.connections.hub import Hub
from gateway.drain.drainer import Drainer
from gateway.drain.receipt import Receipt
from gateway.errors import TokenError
from gateway.identity.identity import Identity
from gateway.protocol.messages import Goaway, encode
from gateway.settings.load import load
from gateway.settings.model import Settings
from gateway.wire.inflated import Inflated
from tests.support.fake_clock import FakeClock
from tests.support.fake_transport import FakeTransport, Turns
from tests.support.wire import Answer, read_answer, request

ECHO = Subprotocol("heiwa.echo")
NO_RATES = ("connections.messages_per_s=0", "connections.bytes_per_s=0")
FOREVER_S = 2e9
_numbers = itertools.count(1)


@cache
def make_settings(*flags: str) -> Settings:
    """Defaults without rates, and these flags (`section.key=value`)."""
    return load(Path("/dev/null"), {}, [*NO_RATES, *flags]).settings


def device(name: str = "dev-1", account: str = "acme", *scopes: str, device_class: str = "") -> Identity:
    """An identity that may write locations unless scopes are given."""
    return Identity(account, name, frozenset(scopes or ("location:write",)), FOREVER_S, device_class)


class FakeAuthenticator:
    """Knows tokens by heart instead of by signature."""

    def __init__(self, **identities: Identity) -> None:
        self.identities = identities

    def verify(self, token: str) -> Identity:
        try:
            return self.identities[token]
        except KeyError:
            raise TokenError("not a JWT") from None


class Recording:
    """Remembers what happened to its connections, and sends every message back."""

    def __init__(self, echo: bool = True) -> None:
        self.echo = echo
        self.events: list[object] = []
        self.connections: list[Connection] = []

    @property
    def messages(self) -> list[bytes]:
        return [event for event in self.events if isinstance(event, bytes)]

    def opened(self, connection: Connection) -> None:
        self.events.append("opened")
        self.connections.append(connection)

    def greeting(self, connection: Connection) -> bytes | None: ...

    def goaway(self, reason: str, reconnect_after_ms: int) -> bytes:
        return encode(Goaway(reason, reconnect_after_ms))  # type: ignore[arg-type]

    def binary(self, connection: Connection, payload: bytes) -> None:
        self.events.append(payload)
        if self.echo:
            connection.send_binary(payload)

    def text(self, connection: Connection, payload: bytes) -> None:
        self.events.append(payload)
        if self.echo:
            connection.send(payload)

    def closed(self, connection: Connection) -> None:
        self.events.append("closed")

    def writable(self, connection: Connection) -> None:
        self.events.append("writable")


class Bench:
    """A hub, its clock and one recording session."""

    def __init__(
        self,
        *flags: str,
        session: Session | None = None,
        protocols: Sequence[str] = (ECHO,),
        maximum: int = 1000,
        authenticator: FakeAuthenticator | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.session = Recording()
        self.authenticator = authenticator or FakeAuthenticator(good=device())
        settings = make_settings(*flags)
        counts = admission(settings.connections, maximum, settings.connections.http_maximum, self.clock.monotonic_s())
        self.turns = Turns()
        self.hub = Hub(settings, self.clock, counts, random.Random(7), self.turns.defer)
        self.door = Door(
            self.hub,
            settings,
            self.authenticator,  # type: ignore[arg-type]
            dict.fromkeys(protocols, session or self.session),
        )
        self.receipts: list[Receipt] = []
        self.drainer = Drainer(settings.drain, self.door, self.clock, random.Random(8), self)

    def keep(self, receipt: Receipt) -> None:
        """The Receipts port: remembers them."""
        self.receipts.append(receipt)

    def accept(self, address: str = "192.0.2.1") -> FakeTransport:
        """A socket that was just accepted."""
        protocol = Accepting(self.door)
        transport = FakeTransport(protocol, address, self.turns)
        protocol.connection_made(transport)
        return transport

    def ask(self, token: str = "good", rest: bytes = b"") -> tuple[FakeTransport, Answer]:
        """A handshake for the echo, and what it was answered."""
        transport = self.accept()
        transport.feed(request(token, protocols=[ECHO]) + rest)
        return transport, read_answer(transport.take())

    def open(
        self,
        identity: Identity | None = None,
        rest: bytes = b"",
        inflated: Inflated | None = None,
        *,
        greeted: bool = True,
    ) -> tuple[Connection, FakeTransport]:
        """An open websocket past its handshake and its first message; its first ping is due after a heartbeat."""
        identity = identity or device()
        hub = self.hub
        transport = FakeTransport(turns=self.turns)
        hub.admission.open += 1
        slot = hub.table.take()
        while slot >= len(hub.holders):
            hub.holders.append(None)
        hub.table.heard_s[slot] = hub.now_s
        hub.table.id_high[slot] = self.clock.time_ms() << 16
        # Above the bits from which ages are drawn.
        hub.table.id_low[slot] = next(_numbers) << 40
        hub.table.expires_ms[slot] = int(identity.expires_s * 1000)
        connection = Connection(hub, slot, hub.registry.profile(identity), identity.device, self.door.sessions[ECHO])
        transport.protocol = connection
        hub.registry.add(connection)
        hub.opened += 1
        hub.wheel.schedule(slot, hub.now_s)
        connection.open(transport, inflated, b"", rest)
        if greeted and not rest:
            connection.greet()
            hub.table.deadline_s[slot] = 0
        return connection, transport

    def pass_time(self, seconds: float, step_s: float = 0.25) -> None:
        """Move the clock in ticks."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            self.hub.tick()
            self.turns.end()
