"""A new connection until it is a websocket, an HTTP request, or refused.

Order: admission at accept, before any cryptography; the request's head, within its size and time; the token; then what
only the token tells: account, device, duplicates. Nobody is closed without an answer.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv6Address
from typing import cast

from gateway.connections import admission
from gateway.connections.admission import Refusal, retry_after_s
from gateway.connections.close_codes import REPLACED
from gateway.connections.connection import Connection
from gateway.connections.handed import Handed
from gateway.connections.handshake import Offer, Rejected, find_end, is_websocket_path, read_offer
from gateway.connections.hub import Hub
from gateway.connections.identity import Identity
from gateway.connections.inflated import Inflated
from gateway.connections.proxy import ProxyHeaderError, forwarded_address, read_proxy_header, trusted
from gateway.connections.table import parse_address
from gateway.connections.uuid7 import uuid7
from gateway.errors import TokenError

_NO_ADDRESS = IPv4Address(0)
WEBSOCKET_SCOPES = frozenset({"location:write", "progress:read", "command:receive", "admin"})


class Accepting(asyncio.Protocol):
    """Replaced by a Connection (or handed over to the HTTP API) as soon as the request is known."""

    __slots__ = ("_address", "_buffer", "_hub", "_over", "_proxied", "_refusal", "_slot", "_transport")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._buffer = b""
        self._refusal: Refusal | None = None
        self._proxied = not hub.proxy_protocol
        self._over = False
        self._address: IPv4Address | IPv6Address = _NO_ADDRESS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        hub = self._hub
        self._transport = cast(asyncio.Transport, transport)
        hub.admission.open += 1
        hub.admission.pending += 1
        self._slot = hub.take_slot(self)
        hub.set_deadline(self._slot, hub.handshake_timeout_s)
        peer = self._transport.get_extra_info("peername")
        self._address = parse_address(peer[0] if peer else "")
        self._refusal = hub.admission.at_accept(hub.clock.monotonic_s())
        if self._refusal is not None:
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
            elif self._refusal is None or self._refusal is not admission.AT_MAXIMUM or self._has_reserve():
                self._hand_over(head + rest)
            else:
                raise Rejected.of(self._refusal, retry_after_s(self._hub.chance))
        except Rejected as rejected:
            self._reject(rejected)

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over:
            self._hub.refusals[0, "gone"] += 1
            self._leave_pending()
        self._hub.admission.open -= 1
        self._hub.free_slot(self._slot)

    def look(self, now_s: float) -> None:
        """The wheel has come: the time for the request, or for the peer to take its answer, may be over."""
        deadline_s = self._hub.table.deadline_s[self._slot]
        if now_s < deadline_s:
            self._hub.wheel.schedule(self._slot, deadline_s)
        elif self._over:
            self._transport.abort()
        elif self._refusal is not None:
            self.answer_refusal()
        else:
            self._reject(Rejected(408, "timeout", f"no request within {self._hub.handshake_timeout_s:g} s"))

    def answer_refusal(self, linger: bool = True) -> None:
        """Refuse without having seen the whole request: its time is over, or (`linger` false) files are short."""
        if self._refusal is not None and not self._over:
            self._reject(Rejected.of(self._refusal, retry_after_s(self._hub.chance)), linger)

    # The steps

    def _queue(self) -> None:
        """A refused peer is answered when its request is there. Only so many may wait for that: each holds a file."""
        waiting = self._hub.refused
        waiting[self._slot] = self
        if len(waiting) > self._hub.settings.file_reserve // 2:
            _, oldest = waiting.popitem(last=False)
            oldest.answer_refusal(linger=False)

    def _has_reserve(self) -> bool:
        counts, settings = self._hub.admission, self._hub.settings
        return counts.open <= counts.maximum + settings.file_reserve // 2

    def _read_proxy_header(self) -> bool:
        hub = self._hub
        if not trusted(self._address, hub.proxies):
            raise Rejected(400, "proxy", "a PROXY protocol header is expected, from a trusted proxy only")
        try:
            found = read_proxy_header(self._buffer)
        except ProxyHeaderError as error:
            raise Rejected(400, "proxy", str(error)) from error
        if found is None:
            return False
        address, length = found
        self._address = address or self._address
        self._buffer = self._buffer[length:]
        self._proxied = True
        return True

    def _websocket(self, head: bytes, rest: bytes) -> None:
        hub = self._hub
        if self._refusal is not None:
            raise Rejected.of(self._refusal, retry_after_s(hub.chance))
        offer = read_offer(head, hub.policy)
        try:
            identity = self._identify(offer)
            self._limits(identity)
        except Rejected:
            offer.decline()
            raise
        self._become_websocket(offer, identity, rest)

    def _identify(self, offer: Offer) -> Identity:
        challenge = {"WWW-Authenticate": 'Bearer realm="heiwa"'}
        if offer.token is None:
            raise Rejected(401, "token", "a token is needed: Authorization: Bearer, or heiwa.bearer.<JWT>", challenge)
        try:
            identity = self._hub.authenticator.verify(offer.token)
        except TokenError as error:
            challenge["WWW-Authenticate"] += ', error="invalid_token"'
            raise Rejected(401, "token", str(error), challenge) from error
        if WEBSOCKET_SCOPES.isdisjoint(identity.scopes):
            needed = ", ".join(sorted(WEBSOCKET_SCOPES - {"admin"}))
            raise Rejected(403, "scope", f"the token needs one of the scopes {needed}")
        return identity

    def _limits(self, identity: Identity) -> None:
        """What depends on who it is, and on what happened since it was accepted; raises Rejected."""
        hub = self._hub
        if hub.admission.draining:
            raise Rejected.of(admission.DRAINING, retry_after_s(hub.chance))
        most = hub.settings.maximum_per_account
        if most and hub.registry.connected(identity.account) >= most:
            raise Rejected.of(admission.ACCOUNT_AT_MAXIMUM, retry_after_s(hub.chance))
        wait_s = hub.flaps.admit(identity.account, identity.device, hub.clock.monotonic_s())
        if wait_s:
            raise Rejected.of(admission.FLAPPING, retry_after_s(hub.chance, wait_s))
        profile = hub.registry.profile(identity)
        alone = hub.settings.duplicates == "reject" and profile.exclusive
        if alone and hub.registry.rivals(identity.account, identity.device):
            raise Rejected.of(admission.DUPLICATE, retry_after_s(hub.chance))

    def _become_websocket(self, offer: Offer, identity: Identity, rest: bytes) -> None:
        hub, slot = self._hub, self._slot
        self._leave_pending()
        table = hub.table
        forwarded = offer.forwarded_for
        if forwarded and hub.proxies:
            self._address = forwarded_address(self._address, forwarded, hub.proxies)
        table.set_address(slot, self._address)
        table.id_high[slot], table.id_low[slot] = uuid7(hub.clock.time_ms(), hub.chance.getrandbits(74))
        table.expires_ms[slot] = int(identity.expires_s * 1000)
        table.heard_s[slot] = hub.now_s
        hub.plan_end(slot)
        profile = hub.registry.profile(identity)
        connection = Connection(hub, slot, profile, identity.device, hub.sessions[offer.subprotocol])
        if hub.settings.duplicates == "replace" and profile.exclusive:
            for rival in hub.registry.rivals(identity.account, identity.device):
                rival.leave("replaced", "replaced", REPLACED)
        hub.registry.add(connection)
        hub.opened += 1
        # The first ping comes at a phase of its own: after a mass reconnect they do not go out together.
        hub.set_deadline(slot, hub.chance.uniform(0, hub.settings.heartbeat_s))
        inflated = None if offer.protocol is None else Inflated(hub.max_message_bytes, offer.protocol)
        connection.open(self._transport, inflated, offer.answer, rest)

    def _hand_over(self, data: bytes) -> None:
        """Any other path is the HTTP API's, which reads the request anew."""
        if self._hub.http is None:
            raise Rejected(404, "path", "nothing is served here; websockets are at /ws")
        self._leave_pending()
        Handed(self._hub, self._slot, self._transport, self._hub.http()).take_over(data)

    def _leave_pending(self) -> None:
        self._hub.admission.pending -= 1
        self._hub.refused.pop(self._slot, None)

    def _reject(self, rejected: Rejected, linger: bool = True) -> None:
        hub = self._hub
        self._over = True
        self._leave_pending()
        hub.refusals[rejected.status, rejected.reason] += 1
        if rejected.status != 503 and hub.refusal_logs.take(hub.now_s):
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


def find_end_or_zero(data: bytes) -> int:
    """Where the request's head ends; 0 when it has not come, or is too large."""
    try:
        return find_end(data)
    except Rejected:
        return 0
