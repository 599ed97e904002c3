"""What one message of `heiwa.v1.json` asks for. Pure: it says what to do, `device_session.py` does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gateway.connections.messages import (
    Error,
    Nack,
    Pong,
    decode_auth,
    decode_event,
    decode_locations,
    decode_ping,
    decode_typed,
    encode,
    identified,
)
from gateway.locations.event import LocationEvent, check

KNOWN = ("location", "locations", "auth", "ping")


class Store(NamedTuple):
    """Give these events to the pipeline; answer the others at once."""

    events: list[LocationEvent]
    refused: list[Nack]


class Renew(NamedTuple):
    """The client shows a new token."""

    token: str


class Reply(NamedTuple):
    """Answer with this message; nothing else happens."""

    message: bytes


class Invalid(NamedTuple):
    """The message cannot be understood: answer, and close with 4400 when it happens again and again."""

    message: bytes


Action = Store | Renew | Reply | Invalid


def interpret(payload: bytes, may_write_locations: bool, now_ms: int) -> Action:
    """What a whole text message asks for; `payload` is UTF-8, `now_ms` since the Unix epoch."""
    try:
        kind = decode_typed(payload).type
        handler = _HANDLERS.get(kind)
        if handler is None:
            allowed = ", ".join(KNOWN)
            return Invalid(_error("unknown_type", f"Unknown type {kind[:64]!r}, allowed: {allowed} - at `$.type`"))
        return handler(payload, may_write_locations, now_ms)
    except msgspec.ValidationError as error:
        return Invalid(_error("invalid", str(error), identified(payload)))
    except msgspec.DecodeError as error:
        return Invalid(_error("malformed", f"not a JSON object: {error}"))


def _location(payload: bytes, may_write_locations: bool, now_ms: int) -> Action:
    try:
        event = decode_event(payload)
        problem = check(event, now_ms)
    except msgspec.ValidationError as error:
        name = identified(payload)
        if name is None:
            raise
        return Invalid(encode(Nack((name,), "invalid", str(error))))
    if problem is not None:
        return Invalid(encode(Nack((event.id,), "invalid", problem)))
    if not may_write_locations:
        return Reply(encode(_forbidden([event])))
    return Store([event], [])


def _locations(payload: bytes, may_write_locations: bool, now_ms: int) -> Action:
    good, bad = decode_locations(payload, now_ms)
    if not may_write_locations:
        return Store([], [*bad, _forbidden(good)] if good else bad)
    return Store(good, bad)


def _auth(payload: bytes, _: bool, __: int) -> Action:
    return Renew(decode_auth(payload).token)


def _ping(payload: bytes, _: bool, __: int) -> Action:
    return Reply(encode(Pong(decode_ping(payload).id)))


_HANDLERS: dict[str, Callable[[bytes, bool, int], Action]] = {
    "location": _location,
    "locations": _locations,
    "auth": _auth,
    "ping": _ping,
}


def _forbidden(events: list[LocationEvent]) -> Nack:
    return Nack([event.id for event in events], "forbidden", "the token lacks the scope location:write")


def _error(code: str, message: str, name: str | None = None) -> bytes:
    return encode(Error(code, message, name))
