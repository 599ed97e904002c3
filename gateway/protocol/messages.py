"""The messages of `heiwa.v1.json`: one JSON object a text frame, tagged by `type`; unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.channels.channel import MAX_NAME_BYTES
from gateway.channels.commands import DeviceError
from gateway.decoding import decoder
from gateway.identity.identity import MAX_NAME_BYTES as MAX_DEVICE_BYTES
from gateway.locations.event import Judge, LocationEvent, Problem, judge_alone
from gateway.protocol.loose import loose_event, loosely, name_of, shaped

MAX_EVENTS = 500


ChannelName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_BYTES)]


class Typed(Struct, frozen=True, gc=False):
    """Read first, to know what the rest is."""

    type: str


class Locations(Struct, frozen=True):
    """What a device stored while it was offline."""

    events: Annotated[list[LocationEvent], Meta(min_length=1, max_length=MAX_EVENTS)]


class LooseLocations(Struct, frozen=True):
    """The same with the events left as they came, to find out which of them is bad."""

    events: Annotated[list[Any], Meta(min_length=1, max_length=MAX_EVENTS)]


class AuthMessage(Struct, frozen=True, gc=False):
    token: str


class PingMessage(Struct, frozen=True, gc=False):
    id: Annotated[str, Meta(max_length=128)] | None = None


class ReportMessage(Struct, frozen=True, gc=False):
    """How far a command is; as often as the device likes."""

    command: Annotated[str, Meta(min_length=1, max_length=64)]
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    message: Annotated[str, Meta(max_length=200)] | None = None


class ResultMessage(Struct, frozen=True):
    """The one result of a command: `value` when `ok`, else `error`."""

    command: Annotated[str, Meta(min_length=1, max_length=64)]
    ok: bool
    value: Any = None
    error: DeviceError | None = None


class SubscribeMessage(Struct, frozen=True, gc=False):
    """`after`: of a log channel (`workflow:<run>`, `workflows`), the offset to go on after; without it a snapshot comes
    first."""

    channel: ChannelName
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


class UnsubscribeMessage(Struct, frozen=True, gc=False):
    channel: ChannelName


class CommandMessage(Struct, frozen=True):
    """Have a device of the account carry something out; what `name` and `args` mean is between the two.

    `id` is the client's own, and comes back with the result. No result within `deadline_ms`: an `error`, and the device
    may have carried it out. `idempotent`: twice does no harm, so it may be sent again when it is not known whether it
    was.
    """

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    device: Annotated[str, Meta(min_length=1, max_length=MAX_DEVICE_BYTES)]
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    args: Any = None
    deadline_ms: Annotated[int, Meta(ge=1, le=60_000)] = 10_000
    idempotent: bool = False


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
    """These events are durable.

    What is `indexed` is kept for `locations.retention_days`, or until the index takes `locations.index_max_bytes`,
    whichever comes first.
    """

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

    reason: Literal["drain", "shift", "max_age", "token_expired", "replaced", "disconnected", "shutdown"]
    reconnect_after_ms: int


class Command(Struct, tag="command", frozen=True):
    """Carry this out, and send one `result` that names `id` within `deadline_ms`: a later one is dropped."""

    id: str
    name: str
    args: Any
    deadline_ms: int


class Authenticated(Struct, tag="authenticated", frozen=True):
    """`expires`: ms since the Unix epoch."""

    expires: int


class Pong(Struct, tag="pong", frozen=True, omit_defaults=True):
    id: str | None = None


class CommandResult(Struct, tag="result", frozen=True, omit_defaults=True):
    """What the device answered to the client's command of this `id`: `value` when `ok`, else its `error`."""

    id: str
    ok: bool
    value: Any = None
    error: DeviceError | None = None


class Subscribed(Struct, tag="subscribed", frozen=True, omit_defaults=True):
    """From here on `event`s come. `offset`: of a log channel, what the first of them comes after; `snapshot`: the state
    that all before have led to, left out of a log that goes on `after` an offset."""

    channel: str
    offset: int | None = None
    snapshot: Any = None


class Unsubscribed(Struct, tag="unsubscribed", frozen=True):
    """No more `event`s of it come."""

    channel: str


class Event(Struct, tag="event", frozen=True, omit_defaults=True):
    """Something happened in a channel. `offset`: of a log channel, counted from 1; `time`: ms since the Unix epoch."""

    channel: str
    time: int
    data: Any
    offset: int | None = None


class Error(Struct, tag="error", frozen=True, omit_defaults=True):
    """`message` ends with the path of the bad field. `id`: of the message that it answers; `channel`: what it is
    about."""

    code: str
    message: str
    id: str | None = None
    channel: str | None = None


encode = msgspec.json.Encoder().encode
decode_typed = decoder(Typed)
decode_event = decoder(LocationEvent)
decode_auth = decoder(AuthMessage)
decode_ping = decoder(PingMessage)
decode_report = decoder(ReportMessage)
decode_result = decoder(ResultMessage)
decode_command = decoder(CommandMessage)
decode_subscribe = decoder(SubscribeMessage)
decode_unsubscribe = decoder(UnsubscribeMessage)
_decode_locations = decoder(Locations)


def decode_locations(payload: bytes, now_ms: int, judge: Judge = judge_alone) -> tuple[list[LocationEvent], list[Nack]]:
    """The events of a `locations` message that can be taken, and a nack for each of the others.

    One bad event does not spoil the rest; the nack of one without an id names none, its message says which it was.
    Raises msgspec.ValidationError when the message itself is wrong (no `events`, too many of them), DecodeError when it
    is not JSON.
    """
    try:
        events = _decode_locations(payload).events
    except msgspec.DecodeError as error:
        raw = loosely(payload)
        if raw is None:
            raise error from None
        return _one_by_one(raw, now_ms, judge)
    problems = judge(events, now_ms)
    if not problems:
        return events, []
    good = [event for index, event in enumerate(events) if index not in problems]
    return good, [refusal(events[index].id, problem, index) for index, problem in sorted(problems.items())]


def decode_location(payload: bytes) -> LocationEvent:
    """One event, a time written with a fraction or an exponent included. Raises ValidationError or DecodeError."""
    try:
        return decode_event(payload)
    except msgspec.DecodeError as error:
        raw = loosely(payload)
        if raw is None:
            raise error from None
        return loose_event(raw)


def kind_of(payload: bytes) -> str:
    """The `type` of a message. Raises ValidationError or DecodeError."""
    try:
        return decode_typed(payload).type
    except msgspec.DecodeError as error:
        raw = loosely(payload)
        if raw is None or isinstance(error, msgspec.ValidationError):
            raise
        return shaped(raw, Typed).type


def refusal(name: str | None, problem: Problem, index: int | None = None) -> Nack:
    """The nack of one event; `name` None: it has no id. `index`: its place in the message; None: it is the message."""
    text = problem.text if index is None else _at(problem.text, index)
    return Nack(() if name is None else (name,), problem.code, text, problem.retry_after_ms)


def identified(payload: bytes) -> str | None:
    """The `id` of a message that could not be decoded; None when there is none that could be named."""
    return name_of(loosely(payload))


def _one_by_one(message: Any, now_ms: int, judge: Judge) -> tuple[list[LocationEvent], list[Nack]]:
    events: list[LocationEvent] = []
    places: list[int] = []
    bad: dict[int, Nack] = {}
    for index, raw in enumerate(shaped(message, LooseLocations).events):
        try:
            events.append(loose_event(raw))
            places.append(index)
        except msgspec.ValidationError as error:
            bad[index] = refusal(name_of(raw), Problem(str(error)), index)
    problems = judge(events, now_ms) if events else {}
    for position, problem in problems.items():
        bad[places[position]] = refusal(events[position].id, problem, places[position])
    good = [event for position, event in enumerate(events) if position not in problems]
    return good, [nack for _, nack in sorted(bad.items())]


def _at(problem: str, index: int) -> str:
    """Move a path from the event to the message: `$.lat` becomes `$.events[3].lat`."""
    if "`$" in problem:
        return problem.replace("`$", f"`$.events[{index}]", 1)
    return f"{problem} - at `$.events[{index}]`"
