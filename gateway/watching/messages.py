"""The frames that a watcher reads, as far as it cares: unknown fields and types are ignored. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Struct, json

from gateway.decoding import Payload, decoder


class Goaway(Struct, frozen=True, tag="goaway"):
    """`reconnect_after_ms` counts from the disconnect."""

    reason: str = ""
    reconnect_after_ms: Annotated[int, Meta(ge=0, le=2**53)] = 0


class Subscribed(Struct, frozen=True, tag="subscribed"):
    """`offset` None: the channel has none."""

    channel: str
    offset: int | None = None
    snapshot: Any = None


class Event(Struct, frozen=True, tag="event"):
    channel: str
    time: int
    data: Any = None
    offset: int | None = None


class Problem(Struct, frozen=True, tag="error"):
    """`channel` None: it is about something else."""

    code: str = ""
    message: str = ""
    channel: str | None = None


class _Any(Struct, frozen=True):
    type: str = ""


Incoming = Goaway | Subscribed | Event | Problem
_KNOWN = frozenset({"goaway", "subscribed", "event", "error"})
_type = decoder(_Any)
_incoming: Callable[[Payload], Incoming] = decoder(Incoming)  # type: ignore[arg-type]


def decode(frame: str | bytes) -> Incoming | None:
    """A frame of the server; None for a type that a watcher does not need. Raises msgspec.DecodeError for nonsense."""
    return _incoming(frame) if _type(frame).type in _KNOWN else None


def encode_subscribe(channel: str, after: int | None) -> bytes:
    """`after` None: begin with a snapshot."""
    return json.encode({"type": "subscribe", "channel": channel, **({} if after is None else {"after": after})})
