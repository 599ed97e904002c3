"""What one message of `heiwa.v1.json` asks for. Pure: it says what to do, session.py does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gateway.channels.channel import MAX_NAME_BYTES
from gateway.locations.event import Judge, LocationEvent, Problem, judge_alone
from gateway.protocol.messages import (
    CommandMessage,
    Error,
    Nack,
    Pong,
    ReportMessage,
    ResultMessage,
    SubscribeMessage,
    decode_auth,
    decode_command,
    decode_location,
    decode_locations,
    decode_ping,
    decode_report,
    decode_result,
    decode_subscribe,
    decode_unsubscribe,
    encode,
    identified,
    kind_of,
    refusal,
)

KNOWN = ("location", "locations", "report", "result", "command", "subscribe", "unsubscribe", "auth", "ping")


class Store(NamedTuple):
    """Give these events to the pipeline; answer the others at once."""

    events: list[LocationEvent]
    refused: list[Nack]


class Renew(NamedTuple):
    """The client shows a new token."""

    token: str


class Report(NamedTuple):
    """The device says how far a command is."""

    message: ReportMessage


class Result(NamedTuple):
    """The device has carried a command out, or cannot."""

    message: ResultMessage


class Send(NamedTuple):
    """The client wants a device to carry something out."""

    message: CommandMessage


class Subscribe(NamedTuple):
    """The client wants the events of a channel."""

    message: SubscribeMessage


class Unsubscribe(NamedTuple):
    """The client wants no more of them."""

    channel: str


class Reply(NamedTuple):
    """Answer with this message; nothing else happens."""

    message: bytes


class Invalid(NamedTuple):
    """The message cannot be understood: answer, and close with 4400 when it happens again and again."""

    message: bytes


Action = Store | Renew | Report | Result | Send | Subscribe | Unsubscribe | Reply | Invalid


def interpret(payload: bytes, may_write_locations: bool, now_ms: int, judge: Judge = judge_alone) -> Action:
    """What a whole text message asks for; `payload` is UTF-8, `now_ms` since the Unix epoch."""
    try:
        kind = kind_of(payload)
        handler = _HANDLERS.get(kind)
        if handler is None:
            allowed = ", ".join(KNOWN)
            return Invalid(_error("unknown_type", f"Unknown type {kind[:64]!r}, allowed: {allowed} - at `$.type`"))
        return handler(payload, may_write_locations, now_ms, judge)
    except msgspec.ValidationError as error:
        return Invalid(_error("invalid", str(error), identified(payload)))
    except (msgspec.DecodeError, RecursionError) as error:
        return Invalid(_error("malformed", f"not a JSON object: {error}"))


def _location(payload: bytes, may_write_locations: bool, now_ms: int, judge: Judge) -> Action:
    try:
        event = decode_location(payload)
    except msgspec.ValidationError as error:
        name = identified(payload)
        if name is None:
            raise
        return Invalid(encode(refusal(name, Problem(str(error)))))
    problem = judge((event,), now_ms).get(0)
    if problem is not None:
        nack = encode(refusal(event.id, problem))
        # What may be sent again later is no fault of the device.
        return Invalid(nack) if problem.retry_after_ms is None else Reply(nack)
    if not may_write_locations:
        return Reply(encode(_forbidden([event])))
    return Store([event], [])


def _locations(payload: bytes, may_write_locations: bool, now_ms: int, judge: Judge) -> Action:
    good, bad = decode_locations(payload, now_ms, judge)
    if not may_write_locations:
        return Store([], [*bad, _forbidden(good)] if good else bad)
    return Store(good, bad)


def _auth(payload: bytes, _: bool, __: int, ___: Judge) -> Action:
    return Renew(decode_auth(payload).token)


def _report(payload: bytes, _: bool, __: int, ___: Judge) -> Action:
    return Report(decode_report(payload))


def _result(payload: bytes, _: bool, __: int, ___: Judge) -> Action:
    result = decode_result(payload)
    if not result.ok and result.error is None:
        raise msgspec.ValidationError("Object missing required field `error` - at `$`")
    return Result(result)


def _command(payload: bytes, _: bool, __: int, ___: Judge) -> Action:
    return Send(decode_command(payload))


def _subscribe(payload: bytes, _: bool, __: int, ___: Judge) -> Action:
    message = decode_subscribe(payload)
    _check_channel(message.channel)
    return Subscribe(message)


def _unsubscribe(payload: bytes, _: bool, __: int, ___: Judge) -> Action:
    channel = decode_unsubscribe(payload).channel
    _check_channel(channel)
    return Unsubscribe(channel)


def _check_channel(name: str) -> None:
    if len(name.encode()) > MAX_NAME_BYTES:
        raise msgspec.ValidationError(f"Expected at most {MAX_NAME_BYTES} bytes - at `$.channel`")


def _ping(payload: bytes, _: bool, __: int, ___: Judge) -> Action:
    return Reply(encode(Pong(decode_ping(payload).id)))


_HANDLERS: dict[str, Callable[[bytes, bool, int, Judge], Action]] = {
    "location": _location,
    "locations": _locations,
    "report": _report,
    "result": _result,
    "command": _command,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "auth": _auth,
    "ping": _ping,
}


def _forbidden(events: list[LocationEvent]) -> Nack:
    return Nack([event.id for event in events], "forbidden", "the token lacks the scope location:write")


def _error(code: str, message: str, name: str | None = None) -> bytes:
    return encode(Error(code, message, name))
