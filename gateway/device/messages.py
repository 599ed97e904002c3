"""The frames a device reads and writes, as far as it cares: unknown fields and types are ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.decoding import Payload, decoder
from gateway.device.track import Leg
from gateway.locations.event import LocationEvent

# The largest wait that still is a number of floating point after any arithmetic here.
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]


class Welcome(Struct, frozen=True, tag="welcome"):
    """Limits below these would have the device give up events that any gateway takes."""

    connection: str = ""
    max_message_bytes: Annotated[int, Meta(ge=512)] = 131_072
    max_events: Annotated[int, Meta(ge=1)] = 500


class Ack(Struct, frozen=True, tag="ack"):
    ids: list[str]
    durability: str = ""


class Nack(Struct, frozen=True, tag="nack"):
    """`retry_after_ms` None: do not send these again."""

    ids: list[str]
    code: str = ""
    message: str = ""
    retry_after_ms: Milliseconds | None = None


class Goaway(Struct, frozen=True, tag="goaway"):
    """`reconnect_after_ms` counts from the disconnect."""

    reason: str = ""
    reconnect_after_ms: Milliseconds = 0


class Command(Struct, frozen=True, tag="command"):
    """To be carried out and answered with one result."""

    id: str
    name: str = ""
    args: Any = None


class Authenticated(Struct, frozen=True, tag="authenticated"):
    pass


class ServerError(Struct, frozen=True, tag="error"):
    code: str = ""
    message: str = ""


class _Any(Struct, frozen=True):
    type: str = ""


Incoming = Welcome | Ack | Nack | Goaway | Command | Authenticated | ServerError
_KNOWN = frozenset({"welcome", "ack", "nack", "goaway", "command", "authenticated", "error"})
_type = decoder(_Any)
_incoming: Callable[[Payload], Incoming] = decoder(Incoming)  # type: ignore[arg-type]
_encode = msgspec.json.Encoder().encode


def decode(frame: str | bytes) -> Incoming | None:
    """A frame of the server; None for a type that a device does not need. Raises msgspec.DecodeError for nonsense."""
    return _incoming(frame) if _type(frame).type in _KNOWN else None


def encode_event(id_: str, time_ms: int, leg: Leg) -> bytes:
    """The JSON object of one event, without a type."""
    return _encode(LocationEvent(id=id_, time=time_ms, lat=leg.lat, lon=leg.lon, altitude=leg.altitude_m))


def encode(message: object) -> bytes:
    """A frame of any other kind."""
    return _encode(message)


def encode_auth(token: str) -> bytes:
    """The frame that renews the identity of an open connection."""
    return _encode({"type": "auth", "token": token})
