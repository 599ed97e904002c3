"""The AsyncAPI document: its references, and its examples through the code that reads them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from gateway.api.asyncapi import CLIENT_MESSAGES, EXAMPLES, SERVER_MESSAGES, document, key_of, tag_of
from gateway.device.messages import decode
from gateway.protocol import messages
from gateway.protocol.requests import (
    KNOWN,
    Invalid,
    Renew,
    Reply,
    Report,
    Result,
    Send,
    Store,
    Subscribe,
    Unsubscribe,
    interpret,
)

DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(document("1.2.3")))
MESSAGES: dict[str, dict[str, Any]] = DOCUMENT["components"]["messages"]
ACTIONS = {
    "auth": Renew,
    "ping": Reply,
    "report": Report,
    "result": Result,
    "command": Send,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
}
NOW_MS = EXAMPLES["location"]["time"]


def resolve(reference: str) -> Any:
    at: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        at = at[part]
    return at


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for item in node for found in references(item)] if isinstance(node, list) else []


def test_every_message_of_the_code_is_in_it_and_no_other() -> None:
    assert tuple(CLIENT_MESSAGES) == KNOWN
    records = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    assert set(SERVER_MESSAGES) == {kind for kind in records if kind.__struct_config__.tag}
    assert set(MESSAGES) == {*map(key_of, KNOWN), *(tag_of(kind) for kind in SERVER_MESSAGES)}


def test_every_reference_leads_somewhere() -> None:
    assert references(DOCUMENT)
    assert all(resolve(reference) for reference in references(DOCUMENT))


def test_every_message_is_received_or_sent() -> None:
    used = set()
    for name, operation in DOCUMENT["operations"].items():
        assert name.startswith(operation["action"])
        used |= {found["$ref"].rpartition("/")[2] for found in operation["messages"]}
        used |= {found["$ref"].rpartition("/")[2] for found in operation.get("reply", {}).get("messages", [])}
    assert used == set(MESSAGES)


@pytest.mark.parametrize("tag", KNOWN)
def test_an_example_of_a_client_is_understood(tag: str) -> None:
    (example,) = MESSAGES[key_of(tag)]["examples"]
    action = interpret(json.dumps(example["payload"]).encode(), True, NOW_MS)
    assert isinstance(action, ACTIONS.get(tag, Store))
    assert not isinstance(action, Store) or not action.refused


@pytest.mark.parametrize("tag", [tag_of(kind) for kind in SERVER_MESSAGES])
def test_an_example_of_the_server_is_read_by_a_device(tag: str) -> None:
    for example in MESSAGES[tag].get("examples", []):
        assert example["payload"]["type"] == tag
        decode(json.dumps(example["payload"]))
    assert "examples" in MESSAGES[tag] or tag == "welcome"


@pytest.mark.parametrize("key", MESSAGES)
def test_examples_fit_their_schemas_and_others_do_not(key: str) -> None:
    schema, tag = {**MESSAGES[key]["payload"], "components": DOCUMENT["components"]}, MESSAGES[key]["name"]
    validator = jsonschema_rs.validator_for(schema)
    for example in MESSAGES[key].get("examples", []):
        validator.validate(example["payload"])
        assert not validator.is_valid({**example["payload"], "type": "other"})
    assert not validator.is_valid({"type": tag} if tag not in ("ping", "pong") else {"type": tag, "id": 5})


@pytest.mark.parametrize("change", [{"lat": 91}, {"lon": "x"}, {"time": "now"}, {"id": ""}, {"accuracy": -1}])
def test_what_the_schema_refuses_the_decoder_refuses(change: dict[str, Any]) -> None:
    payload = {**EXAMPLES["location"], **change}
    schema = {**MESSAGES["location"]["payload"], "components": DOCUMENT["components"]}
    assert not jsonschema_rs.validator_for(schema).is_valid(payload)
    assert isinstance(interpret(json.dumps(payload).encode(), True, NOW_MS), Invalid)
