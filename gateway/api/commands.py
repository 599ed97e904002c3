"""Commands to devices over HTTP: sent, waited for, and answered with the result or why there is none."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from gateway.api.call import Call, answer, decode, idempotency_key
from gateway.api.devices import name_of
from gateway.api.operation import Listener, Operation
from gateway.api.parameters import IDEMPOTENCY_KEY
from gateway.api.problem import Problem, bad_field, unavailable
from gateway.api.records import CommandAnswer, CommandBody
from gateway.api.route import Route
from gateway.channels.commands import Command, Outcome, Settled
from gateway.errors import BrokerDownError, KeyReusedError

# HTTP status by outcome; DONE is an answer, not a problem.
STATUS: dict[Outcome, int] = {
    Outcome.FAILED: 502,
    Outcome.UNKNOWN: 404,
    Outcome.OFFLINE: 409,
    Outcome.DEAF: 409,
    Outcome.TOO_LARGE: 413,
    Outcome.BUSY: 429,
    Outcome.GONE: 504,
    Outcome.GONE_UNSENT: 409,
    Outcome.UNREACHABLE: 503,
    Outcome.TIMED_OUT: 504,
}

_LATER = (Outcome.BUSY, Outcome.UNREACHABLE)


async def send(call: Call) -> web.StreamResponse:
    """Send a command and wait for its result."""
    account, device = call.identity.account, name_of(call)
    wish = decode(await call.body(), CommandBody)
    command = Command(account, device, wish.name, wish.args, wish.idempotent)
    settled = await _settled(call, command, wish.deadline_ms)
    if settled.outcome is not Outcome.DONE:
        raise _problem(settled)
    return answer(CommandAnswer(device, wish.name, settled.value))


async def _settled(call: Call, command: Command, deadline_ms: int) -> Settled:
    courier = call.api.courier
    key = idempotency_key(call)
    if key is None:
        return await courier.carry(command, deadline_ms)
    try:
        return await courier.send_once(key, call.identity.device, command, deadline_ms)
    except KeyReusedError as error:
        raise bad_field(IDEMPOTENCY_KEY.name, str(error), status=422) from error
    except BrokerDownError as error:
        raise unavailable(f"what became of the idempotency key cannot be known now: {error}") from error


def _problem(settled: Settled) -> Problem:
    extra: dict[str, Any] = {"outcome": settled.outcome.value}
    if settled.outcome is Outcome.OFFLINE:
        extra["last_disconnect"] = msgspec.to_builtins(settled.value)
    if settled.outcome is Outcome.FAILED:
        extra["error"] = msgspec.to_builtins(settled.value)
    if settled.progress is not None:
        extra["progress"] = settled.progress._asdict()
    headers = {"Retry-After": "1"} if settled.outcome in _LATER else None
    return Problem(STATUS[settled.outcome], settled.text, headers=headers, **extra)


ROUTES = (
    Route(
        Operation(
            "POST",
            "/api/v1/devices/{device}/commands",
            "sendCommand",
            "Send a command to a connected device, and wait for its result.",
            "command:send",
            Listener.OPERATIONS,
            CommandAnswer,
            parameters=(IDEMPOTENCY_KEY,),
            body=CommandBody,
            errors=(404, 409, 413, 422, 429, 502, 503, 504),
        ),
        send,
    ),
)
