"""The AsyncAPI 3 document of the websocket, made from the records of its messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.api.operation import Listener, Operation
from gateway.json_schema import in_json_words
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability
from gateway.protocol import messages
from gateway.wire.close_codes import CLOSE_CODES
from gateway.wire.handshake import BEARER, V1

PATH = "/api/v1/asyncapi.json"
DOCUMENT = Operation(
    "GET",
    PATH,
    "asyncapi",
    "The AsyncAPI document of the websocket.",
    None,
    Listener.OPERATIONS,
    {"type": "object", "required": ["asyncapi"]},
)
# By their `type`.
CLIENT_MESSAGES: dict[str, type[msgspec.Struct]] = {
    "location": LocationEvent,
    "locations": messages.Locations,
    "report": messages.ReportMessage,
    "result": messages.ResultMessage,
    "command": messages.CommandMessage,
    "subscribe": messages.SubscribeMessage,
    "unsubscribe": messages.UnsubscribeMessage,
    "auth": messages.AuthMessage,
    "ping": messages.PingMessage,
}
SERVER_MESSAGES: tuple[type[msgspec.Struct], ...] = (
    messages.Welcome,
    messages.Ack,
    messages.Nack,
    messages.Goaway,
    messages.Command,
    messages.CommandResult,
    messages.Subscribed,
    messages.Unsubscribed,
    messages.Event,
    messages.Authenticated,
    messages.Pong,
    messages.Error,
)
_REFERENCE = "#/components/schemas/{name}"
_TIME_MS = 1_795_936_543_443
_EVENT = {"id": "a-1", "time": _TIME_MS, "lat": 35.6812, "lon": 139.7671, "accuracy": 4.5}
_COMMAND = "01a20300-28db-7fbd-aa30-5f10d02a09dc"
_STATE = {"connected": True, "location": {"time": _TIME_MS, "lat": 35.6812, "lon": 139.7671, "speed": 1.2}}
# What each message looks like; `{token}` stands for a JWT.
EXAMPLES: dict[str, dict[str, Any]] = {
    "location": {"type": "location", **_EVENT, "attributes": {"battery": 0.82, "charging": False}},
    "locations": {"type": "locations", "events": [_EVENT, {**_EVENT, "id": "a-2", "time": _TIME_MS + 1000}]},
    "report": {"type": "report", "command": _COMMAND, "percent": 40, "message": "heating"},
    "result": {"type": "result", "command": _COMMAND, "ok": True, "value": {"on": True}},
    "command": {
        "type": "command",
        "id": "1",
        "device": "lamp-1",
        "name": "switch",
        "args": {"on": True},
        "deadline_ms": 5000,
    },
    "subscribe": {"type": "subscribe", "channel": "device:dog-1"},
    "unsubscribe": {"type": "unsubscribe", "channel": "device:dog-1"},
    "auth": {"type": "auth", "token": "{token}"},
    "ping": {"type": "ping", "id": "7"},
}
_ANSWERS: tuple[msgspec.Struct, ...] = (
    messages.Ack(["a-1", "a-2"], Durability.INDEXED.value),
    messages.Nack(["a-3"], "overloaded", "too many events are waiting; send it again later", 2500),
    messages.Goaway("drain", 4200),
    messages.Command(_COMMAND, "switch", {"on": True}, 10_000),
    messages.CommandResult("1", True, {"on": True}),
    messages.Subscribed("device:dog-1", snapshot=_STATE),
    messages.Unsubscribed("device:dog-1"),
    messages.Event("device:dog-1", _TIME_MS + 40, _STATE),
    messages.Authenticated(_TIME_MS + 3_600_000),
    messages.Pong("7"),
    messages.Error("unknown_type", "Unknown type 'hello', allowed: location, locations, report, … - at `$.type`"),
)
# What is sent, and what may come back.
_REPLIES: dict[str, tuple[str, ...]] = {
    "location": ("ack", "nack", "error"),
    "locations": ("ack", "nack", "error"),
    "report": ("error",),
    "result": ("error",),
    "command": ("result", "error"),
    "subscribe": ("subscribed", "error"),
    "unsubscribe": ("unsubscribed", "error"),
    "auth": ("authenticated", "error"),
    "ping": ("pong", "error"),
}


def document(version: str) -> dict[str, Any]:
    """The whole document, ready to be encoded as JSON. It describes the gateway: what it receives clients send."""
    kinds = [*CLIENT_MESSAGES.values(), *SERVER_MESSAGES]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    by_kind = dict(zip(kinds, schemas, strict=True))
    made = {key_of(tag): _from_client(tag, kind, by_kind[kind]) for tag, kind in CLIENT_MESSAGES.items()}
    made |= {tag_of(kind): _message(tag_of(kind), kind, by_kind[kind]) for kind in SERVER_MESSAGES}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Heiwa",
            "version": version,
            "description": f"The subprotocol {V1}: one JSON object a text frame, tagged by `type`; unknown fields are "
            "ignored. A binary frame closes with 1003.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"public": _server()},
        "channels": {"device": _channel(made)},
        "operations": _operations(),
        "components": {
            "messages": made,
            "schemas": in_json_words(components),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "x-close-codes": [
            {"code": entry.code, "name": entry.name, "meaning": entry.meaning} for entry in CLOSE_CODES.values()
        ],
    }


def tag_of(kind: type[msgspec.Struct]) -> str:
    """The `type` of a message of the server."""
    return str(kind.__struct_config__.tag)


def key_of(tag: str) -> str:
    """The name in the document of a client's message: its `type`, unless the server has one of the same."""
    return f"{tag}FromClient" if tag in answers() else tag


def answers() -> Mapping[str, msgspec.Struct]:
    """An example of every message of the server but the first, by its `type`."""
    return {tag_of(type(answer)): answer for answer in _ANSWERS}


def _from_client(tag: str, kind: type[msgspec.Struct], schema: dict[str, Any]) -> dict[str, Any]:
    tagged = {"type": "object", "required": ["type"], "properties": {"type": {"const": tag}}}
    return _message(tag, kind, {"allOf": [tagged, schema]}) | {"examples": [{"payload": EXAMPLES[tag]}]}


def _message(tag: str, kind: type[msgspec.Struct], schema: dict[str, Any]) -> dict[str, Any]:
    built: dict[str, Any] = {"name": tag, "contentType": "application/json", "payload": schema}
    if kind.__doc__:
        built["description"] = in_json_words({"description": " ".join(kind.__doc__.split())})["description"]
    example = answers().get(tag)
    if example is not None:
        built["examples"] = [{"payload": msgspec.to_builtins(example)}]
    return built


def _server() -> dict[str, Any]:
    return {
        "host": "127.0.0.1:8080",
        "protocol": "ws",
        "description": "The public listener, at the default of `listen.public`; wss behind whatever ends TLS.",
        "security": [{"$ref": "#/components/securitySchemes/token"}],
    }


def _channel(made: Mapping[str, Any]) -> dict[str, Any]:
    headers = {
        "type": "object",
        "properties": {
            "Authorization": {
                "type": "string",
                "pattern": "^Bearer .+",
                "description": "The token; not from browsers.",
            },
            "Sec-WebSocket-Protocol": {
                "type": "string",
                "description": f"`{V1}`; in browsers, which cannot set Authorization, also `{BEARER}` and the token.",
            },
        },
    }
    return {
        "address": "/ws",
        "description": "One websocket of one device or app.",
        "servers": [{"$ref": "#/servers/public"}],
        "messages": {tag: {"$ref": f"#/components/messages/{tag}"} for tag in made},
        "bindings": {"ws": {"method": "GET", "headers": headers, "bindingVersion": "0.1.0"}},
    }


def _operations() -> dict[str, Any]:
    channel = {"$ref": "#/channels/device"}

    def named(*tags: str) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/device/messages/{tag}"} for tag in tags]

    receive = {
        f"receive{tag.title()}": {
            "action": "receive",
            "channel": channel,
            "messages": named(key_of(tag)),
            "reply": {"channel": channel, "messages": named(*_REPLIES[tag])},
        }
        for tag in CLIENT_MESSAGES
    }
    unasked = ("welcome", "goaway", "command", "event", "error")
    send = {f"send{tag.title()}": {"action": "send", "channel": channel, "messages": named(tag)} for tag in unasked}
    return receive | send
