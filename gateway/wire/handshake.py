"""The opening handshake: from the bytes of a request to a websocket offer or a readable refusal (RFC 6455, 4.2).

What nearly every request is, is read in plain_request.py; any other is judged by websockets' Sans-I/O layer. This file
adds subprotocols, origins and where the token is.
"""

from __future__ import annotations

import http
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec
from websockets.exceptions import InvalidHeader
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from gateway.wire.inflated import release
from gateway.wire.origin import normal
from gateway.wire.plain_request import read_plain_request
from gateway.wire.refusal import Refusal
from gateway.wire.status import phrase

MAX_REQUEST_BYTES = 16_384
PATH = b"/ws"
END_OF_REQUEST = b"\r\n\r\n"
_SUBPROTOCOL = "Sec-WebSocket-Protocol"
_SCHEMES = (b"http", b"https", b"ws", b"wss")
V1 = "heiwa.v1.json"
BEARER = "heiwa.bearer."


@dataclass(eq=False)
class Rejected(Exception):
    """The handshake is refused with this answer. `extra` are further members of the problem (RFC 9457, 3.2)."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(refusal: Refusal, retry_after_s: int) -> Rejected:
        """A refusal by admission, with the time to stay away."""
        return Rejected(refusal.status, refusal.reason, refusal.detail, {"Retry-After": str(retry_after_s)})

    def response(self) -> bytes:
        """The whole HTTP answer with a JSON problem (RFC 9457); the connection ends after it."""
        title = phrase(self.status)
        body = msgspec.json.encode(
            {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail, **self.extra}
        )
        lines = [
            f"HTTP/1.1 {self.status} {title}",
            "Content-Type: application/problem+json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            *(f"{name}: {value}" for name, value in {"Connection": "close", **self.headers}.items()),
        ]
        return "\r\n".join(lines).encode("latin-1") + END_OF_REQUEST + body


class _Protocol(ServerProtocol):
    """Answers with the subprotocol that was chosen, whatever else was offered."""

    chosen: Subprotocol | None = None

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        return self.chosen


@dataclass(frozen=True, slots=True)
class Policy:
    """What this listener serves. `subprotocols` in order of preference; the first is for clients that offer none.

    `tolerated` are those that some class of devices offers unasked.
    """

    subprotocols: Sequence[str]
    allowed_origins: Collection[str]
    max_message_bytes: int
    compression: bool = False
    tolerated: Collection[str] = frozenset()


class Headers(Protocol):
    """The headers of a request, by name in any case."""

    def get_all(self, name: str, /) -> list[str]: ...


class Offer(NamedTuple):
    """A valid websocket handshake that waits for its token to be verified.

    `token` None: there is none. `subprotocol` is the one to be spoken; `unasked` the only one that was offered where
    that is a tolerated one, else "". `answer` is the whole 101. `protocol` is kept for an extension that was agreed;
    None: none was.
    """

    token: str | None
    subprotocol: str
    unasked: str
    forwarded_for: str
    user_agent: str
    answer: bytes
    protocol: ServerProtocol | None

    @staticmethod
    def of(
        headers: Headers, chosen: Chosen, token: str | None, answer: bytes, protocol: ServerProtocol | None = None
    ) -> Offer:
        """The offer that these headers make."""
        forwarded_for = ",".join(headers.get_all("X-Forwarded-For"))
        user_agent = ",".join(headers.get_all("User-Agent"))
        return Offer(token, chosen.name or V1, chosen.unasked, forwarded_for, user_agent, answer, protocol)

    def decline(self) -> None:
        """The handshake is refused after all: free the protocol at once."""
        if self.protocol is not None:
            release(self.protocol)


def find_end(data: bytes | bytearray) -> int:
    """The length of the request's head within `data`, 0 while it is incomplete. Raises Rejected when too large."""
    end = data.find(END_OF_REQUEST, 0, MAX_REQUEST_BYTES)
    if end >= 0:
        return end + len(END_OF_REQUEST)
    if len(data) >= MAX_REQUEST_BYTES:
        raise Rejected(431, "header_size", f"the request is larger than {MAX_REQUEST_BYTES} bytes")
    return 0


def path_of(head: bytes) -> bytes:
    """The path that a request's head asks for, without its query; b"" when there is none."""
    parts = head[: head.find(b"\r\n")].split(b" ")
    target = parts[1] if len(parts) > 1 else b""
    # RFC 9112, 3.2.2: "a server MUST accept the absolute-form in requests".
    if not target.startswith(b"/"):
        scheme, separator, rest = target.partition(b"://")
        if separator and scheme.lower() in _SCHEMES:
            target = b"/" + rest.partition(b"/")[2]
    return target.partition(b"?")[0]


def is_websocket_path(head: bytes) -> bool:
    """Whether the request is for `/ws`; all other paths belong to the HTTP API."""
    return path_of(head) == PATH


def read_offer(head: bytes, policy: Policy) -> Offer:
    """Judge exactly one request's head, and nothing behind it. Raises Rejected."""
    request = read_plain_request(head)
    if request is None or (policy.compression and request.get_all("Sec-WebSocket-Extensions")):
        return read_unusual_offer(head, policy)
    offered = _offered(request)
    token = _credential(request, offered, policy)
    chosen = choose_subprotocol(offered, policy)
    return Offer.of(request, chosen, token, request.switching_protocols(chosen.name))


def read_unusual_offer(head: bytes, policy: Policy) -> Offer:
    """The same by websockets' Sans-I/O layer, which can judge any head. Raises Rejected."""
    # Fed more than the head, the library's generator would swallow the start of a glued frame and parse frames of a
    # peer that is not authenticated.
    protocol = _Protocol(
        extensions=[ServerPerMessageDeflateFactory()] if policy.compression else None,
        max_size=policy.max_message_bytes,
    )
    try:
        offer = _judge(protocol, head, policy)
    except Rejected:
        release(protocol)
        raise
    if offer.protocol is None:
        release(protocol)
    return offer


def _judge(protocol: _Protocol, head: bytes, policy: Policy) -> Offer:
    protocol.receive_data(head)
    request = next(iter(protocol.events_received()), None)
    if not isinstance(request, Request):
        raise _malformed(protocol)
    offered = _offered(request.headers)
    # React Native and Deno send an empty header for no subprotocol, which the library takes for an error.
    if _SUBPROTOCOL in request.headers and not offered:
        del request.headers[_SUBPROTOCOL]
    # RFC 9112, 3.2: a request without a Host header, or with several, is answered with 400.
    if len(request.headers.get_all("Host")) != 1:
        raise Rejected(400, "host", "exactly one Host header is needed")
    token = _credential(request.headers, offered, policy)
    chosen = choose_subprotocol(offered, policy)
    protocol.chosen = None if chosen.name is None else Subprotocol(chosen.name)
    response = protocol.accept(request)
    if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
        raise _judged(protocol, response)
    protocol.send_response(response)
    answer = b"".join(protocol.data_to_send())
    return Offer.of(request.headers, chosen, token, answer, protocol if protocol.extensions else None)


class Chosen(NamedTuple):
    """`name` None: the client gets the default without being told. `unasked` as in Offer."""

    name: str | None
    unasked: str = ""


def choose_subprotocol(offered: Sequence[str], policy: Policy) -> Chosen:
    """The first served subprotocol that is offered; no name when the client offers none at all.

    A tolerated one that is offered alone is like none: RFC 6455, 4.2.2 lets the server agree to no subprotocol.
    Raises Rejected when it offers only unknown ones, or only a token.
    """
    if not offered:
        return Chosen(None)
    for name in policy.subprotocols:
        if name in offered:
            return Chosen(name)
    if len(offered) == 1 and offered[0] in policy.tolerated:
        return Chosen(None, offered[0])
    raise not_served(policy)


def not_served(policy: Policy) -> Rejected:
    """The answer to a client that offers only subprotocols that are not spoken here."""
    return Rejected(
        400,
        "subprotocol",
        "none of the offered subprotocols is served",
        extra={"served": [*policy.subprotocols, f"{BEARER}<JWT>"]},
    )


def _offered(headers: Headers) -> list[str]:
    names = [name.strip() for header in headers.get_all(_SUBPROTOCOL) for name in header.split(",")]
    return [name for name in names if name]


def _credential(headers: Headers, subprotocols: Sequence[str], policy: Policy) -> str | None:
    """The token, from the Authorization header (RFC 6750, 2.1) or, for browsers, which cannot set headers on a
    websocket, from an offered subprotocol. Raises Rejected for a browser's page of an origin that is not allowed.
    """
    bearer = _bearer(headers)
    offered = next((name.removeprefix(BEARER) for name in subprotocols if name.startswith(BEARER)), None)
    if bearer is not None and offered is not None:
        raise Rejected(400, "token", "the token is in the Authorization header and in a subprotocol; send it once")
    # No page can set the header, and many device libraries send an Origin that cannot be changed.
    if bearer is None:
        origin = headers.get_all("Origin")
        if origin and (len(origin) > 1 or normal(origin[0]) not in policy.allowed_origins):
            raise Rejected(
                403,
                "origin",
                "this Origin is not in listen.allowed_origins; it is not looked at when the token comes as "
                "Authorization: Bearer",
            )
    return bearer if bearer is not None else offered


def _bearer(headers: Headers) -> str | None:
    authorizations = headers.get_all("Authorization")
    if len(authorizations) != 1:
        return None
    scheme, _, token = authorizations[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _malformed(protocol: ServerProtocol) -> Rejected:
    error = protocol.handshake_exc
    # What follows the colon is the line at fault, and that may hold the token.
    detail = str(error.__cause__ or error).partition(":")[0] if error else "not an HTTP request"
    written = b"".join(protocol.data_to_send())
    # The library has written its own answer when a line or the number of headers was over its limits (414, 431).
    status = int(written[9:12]) if written.startswith(b"HTTP/1.1 ") else 400
    return Rejected(status, "malformed", f"not a valid HTTP request: {detail}"[:300])


def _judged(protocol: ServerProtocol, response: Response) -> Rejected:
    kept = {name: response.headers[name] for name in ("Allow", "Upgrade") if name in response.headers}
    if response.status_code == http.HTTPStatus.UPGRADE_REQUIRED:
        kept["Connection"] = "Upgrade, close"
        kept["Sec-WebSocket-Version"] = "13"
    # RFC 6455, 4.4: a version we do not speak is answered with the one we do.
    if response.status_code == http.HTTPStatus.BAD_REQUEST:
        kept["Sec-WebSocket-Version"] = "13"
    return Rejected(response.status_code, "handshake", f"no websocket handshake: {_told(protocol)}"[:300], kept)


def _told(protocol: ServerProtocol) -> str:
    """What is wrong with the handshake, without quoting the request: in a broken one the token may stand anywhere."""
    error = protocol.handshake_exc
    if isinstance(error, InvalidHeader):
        return f"{'missing' if error.value is None else 'invalid'} {error.name} header"
    return str(error).partition(":")[0]
