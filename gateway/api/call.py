"""One request: who asks, with which parameters and which body."""

from __future__ import annotations

import asyncio
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from gateway.api.context import Api
from gateway.api.http_protocol import HttpProtocol
from gateway.api.parameters import IDEMPOTENCY_KEY
from gateway.api.problem import Problem, bad_field, forbidden, unauthorized
from gateway.connections.handover import AUTHORIZED
from gateway.decoding import decoder
from gateway.errors import QueryError
from gateway.identity.identity import Identity
from gateway.identity.token import MAX_TOKEN_BYTES

MAX_QUERY_BYTES = 4096
BODY_TIMEOUT_S = 30.0
_MAX_KEY = 255
_KEY = re.compile(rf"[!-~]{{1,{_MAX_KEY}}}")
T = TypeVar("T")


class Call:
    """What a handler gets. `identity` is empty where the operation needs no scope."""

    def __init__(self, api: Api, request: web.Request, identity: Identity) -> None:
        self.api = api
        self.request = request
        self.identity = identity

    @property
    def device(self) -> str:
        """The `{device}` of the path, percent-decoded."""
        return self.request.match_info["device"]

    def query(self) -> dict[str, str]:
        """The query parameters. Raises QueryError for one that is given twice."""
        found: dict[str, str] = {}
        for name, value in self.request.query.items():
            if name in found:
                raise QueryError(name, "is given twice")
            found[name] = value
        return found

    def for_the_answer(self) -> AbstractContextManager[None]:
        """What is done within this is cancelled once the peer is gone."""
        protocol = self.request.protocol
        return protocol.for_the_answer() if isinstance(protocol, HttpProtocol) else nullcontext()

    async def body(self, types: Sequence[str] = ("application/json",)) -> bytes:
        """The body, at most as large as the application allows. Raises Problem 408 or 415.

        JSON may also be a type that ends in `+json`.
        """
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                payload = await self.request.read()
        except TimeoutError as error:
            raise Problem(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from error
        kind = self.request.content_type
        # Clients name a type of their own choice for no body at all.
        named = bool(payload) and "Content-Type" in self.request.headers
        if named and kind not in types and not kind.endswith("+json"):
            accepted = " or ".join(types)
            raise Problem(415, f"the body must be {accepted}, not {kind}", headers={"Accept": ", ".join(types)})
        return payload


def idempotency_key(call: Call) -> str | None:
    """The header of that name; None: it was not sent. Raises Problem for one that cannot be a key."""
    name = IDEMPOTENCY_KEY.name
    key = call.request.headers.get(name)
    if key is not None and (not _KEY.fullmatch(key) or len(call.request.headers.getall(name)) > 1):
        raise bad_field(name, f"must be given once, with at most {_MAX_KEY} printable characters of ASCII")
    return key


def answer(value: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def decode(payload: bytes, kind: type[T]) -> T:
    """A JSON body as `kind`. Raises Problem: 400 when it is empty or not JSON, else 422 naming the field."""
    if not payload.strip():
        raise bad_field("$", "the body is empty; it has to be JSON")
    try:
        return decoder(kind)(payload)
    except msgspec.DecodeError as error:
        raise invalid(error) from error


def invalid(error: msgspec.DecodeError) -> Problem:
    """400 for what is not JSON; else 422 with the path that msgspec puts at the end of its message."""
    if not isinstance(error, msgspec.ValidationError):
        return bad_field("$", f"not JSON that can be read: {error}")
    problem, separator, path = str(error).rpartition(" - at ")
    return bad_field(path.strip("`") if separator else "$", problem if separator else str(error), status=422)


def authorize(api: Api, request: web.Request, scope: str) -> Identity:
    """Who asks, if the token allows `scope`. Raises Problem 401 or 403, TokenError for a token that does not hold."""
    header = request.headers.get("Authorization")
    if header is None:
        raise unauthorized("a token is needed: Authorization: Bearer …", given=False)
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_BYTES:
        raise unauthorized("the Authorization header must be: Bearer, a space, and a token", given=True)
    identity = api.tokens.verify(token)
    authorized = request.transport.get_extra_info(AUTHORIZED) if request.transport is not None else None
    if authorized is not None:
        authorized()
    if not identity.may(scope):
        raise forbidden(scope)
    return identity


def encode_cursor(device: str) -> str:
    """An opaque cursor after this device, safe in a URL."""
    return urlsafe_b64encode(b"d" + device.encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> str:
    """The device a cursor stands for. Raises QueryError for one that `encode_cursor` did not make."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        device = raw.decode()
    except ValueError as error:
        raise QueryError("cursor", "is not one that this list returned; start again without it") from error
    # The decoder skips what is not in its alphabet: only what we would write ourselves is accepted.
    if not device.startswith("d") or encode_cursor(device[1:]) != cursor:
        raise QueryError("cursor", "is not one that this list returned; start again without it")
    return device[1:]
