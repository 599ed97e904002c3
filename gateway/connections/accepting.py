"""A new connection until it is a websocket, an HTTP request, or refused.

Order: admission at accept, before any cryptography; the request's head, within its size and time; the token; then what
only the token tells: account, device, duplicates. Nobody is closed without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Hashable
from ipaddress import IPv4Address
from typing import cast

from gateway.connections import admission
from gateway.connections.admission import HOLD_S, retry_after_s
from gateway.connections.connection import Connection
from gateway.connections.door import Door
from gateway.connections.ending import REPLACED
from gateway.connections.handover import Handed
from gateway.connections.registry import Profile
from gateway.connections.table import parse_address
from gateway.errors import KeysUnknownError, TokenError
from gateway.identity.identity import Identity
from gateway.wire.handshake import (
    Offer,
    Rejected,
    find_end,
    is_websocket_path,
    not_served,
    path_of,
    read_offer,
)
from gateway.wire.inflated import Inflated
from gateway.wire.proxy import Address, ProxyHeaderError, believed_header, forwarded_address, trusted
from gateway.wire.refusal import Refusal
from gateway.wire.uuid7 import uuid7

_NO_ADDRESS = IPv4Address(0)
_HEALTH = (b"/livez", b"/readyz")
WEBSOCKET_SCOPES = frozenset(
    {"location:write", "location:read", "progress:read", "command:receive", "command:send", "admin"}
)


class Accepting(asyncio.Protocol):
    """Replaced by a Connection (or handed over to the HTTP API) as soon as the request is known."""

    __slots__ = (
        "_address",
        "_buffer",
        "_door",
        "_hub",
        "_identity",
        "_over",
        "_proxied",
        "_refusal",
        "_rejected",
        "_returned",
        "_slot",
        "_told",
        "_transport",
    )

    def __init__(self, door: Door) -> None:
        self._door = door
        self._hub = door.hub
        self._buffer = b""
        self._refusal: Refusal | None = None
        self._proxied = not door.proxy_protocol
        self._over = False
        self._address: Address = _NO_ADDRESS
        # A trusted proxy has told the address. Else it may be a balancer's, and thus that of the whole fleet.
        self._told = False
        self._identity: Identity | None = None
        self._rejected: Rejected | None = None
        self._returned = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        counts = self._hub.admission
        counts.open += 1
        counts.pending += 1
        self.take_over(cast(asyncio.Transport, transport), counts.at_accept(self._hub.clock.monotonic_s()))

    def take_over(
        self, transport: asyncio.Transport, refusal: Refusal | None, told: tuple[Address, bool] | None = None
    ) -> None:
        """Begin with a connection that is counted already; `refusal` is what admission said. `told`: its address, and
        whether a proxy told it; None: it is the transport's, and a proxy's header may come."""
        hub = self._hub
        self._transport = transport
        self._refusal = refusal
        self._slot = hub.take_slot(self)
        hub.set_deadline(self._slot, self._door.handshake_timeout_s)
        self._address = peer_address(transport)
        if told is not None:
            self._address, self._told = told
            self._proxied = True
        if refusal is not None:
            self._queue()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._buffer += data
        try:
            if not self._proxied and not self._read_proxy_header():
                return
            end = find_end(self._buffer)
            if end == 0:
                return
            head, rest = self._buffer[:end], self._buffer[end:]
            if is_websocket_path(head):
                self._websocket(head, rest)
            else:
                self._hand_over(head, rest)
        except Rejected as rejected:
            self._reject(rejected)
        except Exception as error:
            self.failed(error)

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rejected is not None:
            self._hub.admission.held -= 1
            self._door.held.discard(self)
            self._leave_pending()
        elif not self._over:
            self._door.refusals[0, "gone"] += 1
            self._leave_pending()
        self._hub.admission.open -= 1
        self._hub.free_slot(self._slot)

    def look(self, now_s: float) -> None:
        """The wheel has come: the time for the request, or for the peer to take its answer, may be over."""
        deadline_s = self._hub.table.deadline_s[self._slot]
        if now_s < deadline_s:
            self._hub.wheel.schedule(self._slot, deadline_s)
        elif self._rejected is not None:
            self.answer_held()
        elif self._over:
            self._transport.abort()
        elif self._refusal is not None:
            self.answer_refusal()
        else:
            self._reject(Rejected(408, "timeout", f"no request within {self._door.handshake_timeout_s:g} s"))

    def failed(self, error: Exception) -> None:
        """This program failed with this connection: it ends, and no other does."""
        if self._hub.error_logs.take(self._hub.now_s):
            self._hub.log.error("connection_failed", exc_info=error)
        self._transport.abort()

    def answer_refusal(self, linger: bool = True) -> None:
        """Refuse without having seen the whole request: its time is over, or (`linger` false) files are short."""
        if self._refusal is not None and not self._over:
            self._answer(Rejected.of(self._refusal, retry_after_s(self._hub.chance)), linger)

    def answer_held(self) -> None:
        """Answer a refusal that had to wait."""
        rejected, self._rejected = self._rejected, None
        if rejected is not None:
            self._hub.admission.held -= 1
            self._door.held.discard(self)
            self._answer(rejected)

    # The steps

    def _queue(self) -> None:
        """A refused peer is answered once its request is there. The number that wait is bounded: each holds a file."""
        waiting = self._door.refused
        waiting[self._slot] = self
        if len(waiting) > self._hub.settings.file_reserve // 2:
            _, oldest = waiting.popitem(last=False)
            oldest.answer_refusal(linger=False)

    def _read_proxy_header(self) -> bool:
        if self._address == _NO_ADDRESS:
            # Gone before it could be asked for its address, as a balancer's bare check is.
            self._transport.abort()
            return False
        try:
            found = believed_header(self._address, self._buffer, self._door.proxies)
        except ProxyHeaderError as error:
            raise Rejected(400, "proxy", str(error)) from error
        if found is None:
            return False
        self._address, length, self._told = found
        self._buffer = self._buffer[length:]
        self._proxied = True
        return True

    def _websocket(self, head: bytes, rest: bytes) -> None:
        hub = self._hub
        if self._refusal is not None:
            self._recognize(head)
            raise Rejected.of(self._refusal, retry_after_s(hub.chance))
        offer = read_offer(head, self._door.policy)
        self._locate(offer)
        try:
            identity = self._identify(offer)
            profile = self._limits(identity, offer)
        except Rejected:
            offer.decline()
            raise
        self._become_websocket(offer, identity, profile, rest)

    def _recognize(self, head: bytes) -> None:
        """Identify the refused peer, to hold one that keeps coming; as far as the budget for that goes."""
        with contextlib.suppress(Rejected, TokenError):
            offer = read_offer(head, self._door.policy)
            offer.decline()
            self._locate(offer)
            if offer.token is not None and self._door.recognitions.take(self._hub.clock.monotonic_s()):
                self._identity = self._door.authenticator.verify(offer.token)

    def _locate(self, offer: Offer) -> None:
        """The address of the client behind a trusted proxy."""
        proxies = self._door.proxies
        if offer.forwarded_for and trusted(self._address, proxies):
            self._address = forwarded_address(self._address, offer.forwarded_for, proxies)
            self._told = True

    def _identify(self, offer: Offer) -> Identity:
        challenge = {"WWW-Authenticate": 'Bearer realm="heiwa"'}
        if offer.token is None:
            raise Rejected(401, "token", "a token is needed: Authorization: Bearer, or heiwa.bearer.<JWT>", challenge)
        try:
            identity = self._identity = self._door.authenticator.verify(offer.token)
        except KeysUnknownError as error:
            wait = {"Retry-After": str(retry_after_s(self._hub.chance))}
            raise Rejected(503, "keys", str(error), wait) from error
        except TokenError as error:
            challenge["WWW-Authenticate"] += ', error="invalid_token"'
            raise Rejected(401, "token", str(error), challenge) from error
        if WEBSOCKET_SCOPES.isdisjoint(identity.scopes):
            needed = ", ".join(sorted(WEBSOCKET_SCOPES - {"admin"}))
            raise Rejected(403, "scope", f"the token needs one of the scopes {needed}")
        by_agent = "" if identity.device_class else self._door.class_of_agent(offer.user_agent)
        return identity._replace(device_class=by_agent) if by_agent else identity

    def _limits(self, identity: Identity, offer: Offer) -> Profile:
        """What depends on who it is, and on what happened since it was accepted; raises Rejected. Its profile."""
        hub = self._hub
        if offer.unasked and not self._door.tolerates(identity.device_class, offer.unasked):
            raise not_served(self._door.policy)
        if hub.admission.draining:
            raise Rejected.of(admission.DRAINING, retry_after_s(hub.chance))
        maximum = hub.settings.maximum_per_account
        if maximum and hub.registry.connected(identity.account) >= maximum:
            raise Rejected.of(admission.ACCOUNT_AT_MAXIMUM, retry_after_s(hub.chance))
        wait_s = hub.admission.flaps.admit(identity.account, identity.device, hub.clock.monotonic_s())
        if wait_s:
            raise Rejected.of(admission.FLAPPING, retry_after_s(hub.chance, wait_s))
        profile = hub.registry.profile(identity)
        alone = hub.settings.duplicates == "reject" and profile.exclusive
        if alone and hub.registry.rivals(identity.account, identity.device):
            raise Rejected.of(admission.DUPLICATE, retry_after_s(hub.chance))
        return profile

    def _become_websocket(self, offer: Offer, identity: Identity, profile: Profile, rest: bytes) -> None:
        hub, slot = self._hub, self._slot
        self._over = True
        self._leave_pending()
        table = hub.table
        table.set_address(slot, self._address)
        table.id_high[slot], table.id_low[slot] = uuid7(hub.clock.time_ms(), hub.chance.getrandbits(74))
        table.expires_ms[slot] = int(identity.expires_s * 1000)
        table.heard_s[slot] = hub.now_s
        hub.plan_end(slot)
        connection = Connection(hub, slot, profile, identity.device, self._door.sessions[offer.subprotocol])
        is_known = identity.device in profile.account.devices
        if is_known and profile.exclusive and hub.settings.duplicates == "replace":
            for rival in hub.registry.rivals(identity.account, identity.device):
                rival.leave(REPLACED)
        hub.registry.add(connection)
        hub.opened += 1
        inflated = None if offer.protocol is None else Inflated(hub.limits.message_bytes, offer.protocol)
        connection.open(self._transport, inflated, offer.answer, rest)

    def _hand_over(self, head: bytes, rest: bytes) -> None:
        """Any other path is the HTTP API's, which reads the request anew. Short of room, it answers health checks."""
        hub = self._hub
        if self._door.http is None or self._returned:
            raise Rejected(404, "path", "nothing is served here; websockets are at /ws")
        refusal = self._refusal if self._refusal in admission.SHORT_OF_ROOM else None
        if refusal is None and hub.admission.http >= hub.admission.http_maximum:
            refusal = admission.HTTP_AT_MAXIMUM
        if refusal is not None:
            if path_of(head) not in _HEALTH or not hub.admission.has_reserve(hub.settings.file_reserve):
                raise Rejected.of(refusal, retry_after_s(hub.chance))
            line, _, headers = head.partition(b"\r\n")
            head = line + b"\r\nConnection: close\r\n" + headers
        self._over = True
        self._door.refused.pop(self._slot, None)
        Handed(hub, self._slot, self._transport, self._door.http(), self._again).take_over(head + rest)

    def _again(self, data: bytes) -> None:
        """The HTTP API gives the connection back: `data` begins with a request for a websocket, and nothing else."""
        hub = self._hub
        self._over = False
        self._returned = True
        self._buffer = b""
        hub.admission.pending += 1
        hub.holders[self._slot] = self
        hub.set_deadline(self._slot, self._door.handshake_timeout_s)
        self._refusal = hub.admission.at_accept(hub.clock.monotonic_s())
        self._transport.set_protocol(self)
        self.data_received(data)

    def _leave_pending(self) -> None:
        self._hub.admission.pending -= 1
        self._door.refused.pop(self._slot, None)

    # Refusals

    def _reject(self, rejected: Rejected) -> None:
        """Answer; a peer that was refused a moment ago has to wait for it."""
        hub, name = self._hub, self._name()
        self._over = True
        repeats = name is not None and hub.admission.repeats.again(name, hub.clock.monotonic_s())
        if repeats and hub.admission.may_hold():
            self._door.refused.pop(self._slot, None)
            self._rejected = rejected
            self._door.held.add(self)
            hub.admission.held += 1
            shortest_s, longest_s = HOLD_S
            # The wheel comes up to a tick later.
            hub.set_deadline(self._slot, hub.chance.uniform(shortest_s, longest_s - hub.tick_s))
        else:
            self._answer(rejected)

    def _name(self) -> Hashable | None:
        """By which the peer is known to come again; None: by nothing that is its own."""
        if self._identity is not None:
            return (self._identity.account, self._identity.device)
        return self._address if self._told else None

    def _answer(self, rejected: Rejected, linger: bool = True) -> None:
        hub = self._hub
        self._over = True
        self._leave_pending()
        self._door.refusals[rejected.status, rejected.reason] += 1
        if rejected.status != 503 and self._door.refusal_logs.take(hub.now_s):
            hub.log.info(
                "handshake_refused", status=rejected.status, reason=rejected.reason, address=str(self._address)
            )
        transport = self._transport
        transport.write(rejected.response())
        if not linger or find_end_or_zero(self._buffer) or not transport.can_write_eof():
            transport.close()
            return
        # Bytes of the request may still be on their way: closing now would reset the answer away (RFC 9112, 9.6).
        transport.write_eof()
        hub.set_deadline(self._slot, hub.settings.close_timeout_s)


def peer_address(transport: asyncio.BaseTransport) -> Address:
    """Who is at the other end; 0.0.0.0 once that is gone."""
    peer = transport.get_extra_info("peername")
    return parse_address(peer[0] if peer else "")


def find_end_or_zero(data: bytes) -> int:
    """Where the request's head ends; 0 when it has not come, or is too large."""
    try:
        return find_end(data)
    except Rejected:
        return 0
