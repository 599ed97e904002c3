"""The messages of `heiwa.v1.json`: one JSON object a text frame, tagged by `type`; unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.decoding import decoder
from gateway.locations.event import LocationEvent, check

MAX_EVENTS = 500
# Of an id that is named in an answer although it is not a legal one.
MAX_NAME_BYTES = 128


class Typed(Struct, frozen=True, gc=False):
    """Read first, to know what the rest is."""

    type: str


class Identified(Struct, frozen=True, gc=False):
    """Read from a message that is refused, so that the answer can name it."""

    id: str | None = None


class Locations(Struct, frozen=True):
    """What a device stored while it was offline."""

    events: Annotated[list[LocationEvent], Meta(min_length=1, max_length=MAX_EVENTS)]


class RawLocations(Struct, frozen=True):
    """The same with the events left as they came, to find out which of them is bad."""

    events: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_EVENTS)]


class AuthMessage(Struct, frozen=True, gc=False):
    token: str


class PingMessage(Struct, frozen=True, gc=False):
    id: Annotated[str, Meta(max_length=128)] | None = None


class Welcome(Struct, tag="welcome", frozen=True):
    """The first message: with the first one of the client, or 0.3 to 0.6 s after the handshake. Nothing comes before
    it, and a client may send before it.

    `connection` is a UUIDv7, `time` ms since the Unix epoch. `max_message_bytes` and `max_events` (of one `locations`)
    are the limits of what this client should send.
    """

    connection: str
    time: int
    heartbeat_s: float
    max_message_bytes: int
    max_events: int


class Ack(Struct, tag="ack", frozen=True):
    """These events are durable."""

    ids: Sequence[str]
    durability: str


class Nack(Struct, tag="nack", frozen=True, omit_defaults=True):
    """These events were not taken; `retry_after_ms` None: do not send them again."""

    ids: Sequence[str]
    code: str
    message: str
    retry_after_ms: int | None = None


class Goaway(Struct, tag="goaway", frozen=True):
    """The server will close; `reconnect_after_ms` counts from the disconnect."""

    reason: Literal["drain", "max_age", "token_expired", "replaced", "disconnected", "shutdown"]
    reconnect_after_ms: int


class Authenticated(Struct, tag="authenticated", frozen=True):
    """`expires`: ms since the Unix epoch."""

    expires: int


class Pong(Struct, tag="pong", frozen=True, omit_defaults=True):
    id: str | None = None


class Error(Struct, tag="error", frozen=True, omit_defaults=True):
    """`message` ends with the path of the bad field."""

    code: str
    message: str
    id: str | None = None


encode = msgspec.json.Encoder().encode
decode_typed = decoder(Typed)
decode_event = decoder(LocationEvent)
decode_auth = decoder(AuthMessage)
decode_ping = decoder(PingMessage)
_decode_locations = decoder(Locations)
_decode_raw_locations = decoder(RawLocations)
_decode_identified = decoder(Identified)


def decode_locations(payload: bytes, now_ms: int) -> tuple[list[LocationEvent], list[Nack]]:
    """The events of a `locations` message that can be taken, and a nack for each of the others.

    One bad event does not spoil the rest; the nack of one without an id names none, its message says which it was.
    Raises msgspec.ValidationError when the message itself is wrong (no `events`, too many of them).
    """
    try:
        events = _decode_locations(payload).events
    except msgspec.ValidationError:
        return _one_by_one(payload, now_ms)
    good = [event for event in events if check(event, now_ms) is None]
    if len(good) == len(events):
        return good, []
    bad = [
        Nack((event.id,), "invalid", _at(problem, index))
        for index, event in enumerate(events)
        if (problem := check(event, now_ms)) is not None
    ]
    return good, bad


def split(outcome: Ack | Nack, max_bytes: int) -> list[bytes]:
    """The outcome as messages of at most `max_bytes` each, and all of its ids in their order.

    A message names one id at least, and one of an event is never longer than its limits allow.
    """
    whole = encode(outcome)
    if len(whole) <= max_bytes or len(outcome.ids) < 2:
        return [whole]
    empty_bytes = len(encode(msgspec.structs.replace(outcome, ids=())))
    messages: list[bytes] = []
    part: list[str] = []
    size = empty_bytes
    for name in outcome.ids:
        added = len(encode(name)) + 1
        if part and size + added > max_bytes:
            messages.append(encode(msgspec.structs.replace(outcome, ids=part)))
            part, size = [], empty_bytes
        part.append(name)
        size += added
    messages.append(encode(msgspec.structs.replace(outcome, ids=part)))
    return messages


def identified(payload: bytes) -> str | None:
    """The `id` of a message that could not be decoded; None when there is none that could be named.

    One that is far too long names nothing: the answer must not grow with what a peer sends.
    """
    try:
        name = _decode_identified(payload).id
    except msgspec.DecodeError:
        return None
    return name if name is not None and len(name.encode()) <= MAX_NAME_BYTES else None


def _one_by_one(payload: bytes, now_ms: int) -> tuple[list[LocationEvent], list[Nack]]:
    good: list[LocationEvent] = []
    bad: list[Nack] = []
    for index, raw in enumerate(_decode_raw_locations(payload).events):
        try:
            event = decode_event(raw)
            problem = check(event, now_ms)
        except msgspec.ValidationError as error:
            event, problem = None, str(error)
        if event is not None and problem is None:
            good.append(event)
            continue
        problem = _at(problem or "", index)
        name = event.id if event is not None else identified(bytes(raw))
        bad.append(Nack(() if name is None else (name,), "invalid", problem))
    return good, bad


def _at(problem: str, index: int) -> str:
    """Move a path from the event to the message: `$.lat` becomes `$.events[3].lat`."""
    if "`$" in problem:
        return problem.replace("`$", f"`$.events[{index}]", 1)
    return f"{problem} - at `$.events[{index}]`"
