"""The OpenAPI 3.1 document, made from operations and the records they name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.api.operation import Listener, Operation
from gateway.api.records import ProblemBody
from gateway.json_schema import in_json_words
from gateway.wire.status import phrase

PATH = "/api/v1/openapi.json"
DOCUMENT = Operation(
    "GET", PATH, "openapi", "This document.", None, Listener.OPERATIONS, {"type": "object", "required": ["openapi"]}
)
_REFERENCE = "#/components/schemas/{name}"
_SERVERS = {
    Listener.PUBLIC: ("The public listener.", "8080"),
    Listener.OPERATIONS: ("The operations listener.", "8081"),
    Listener.JOBS: ("The listener for jobs of workflows; off by default.", "8082"),
}
_PROBLEM = "application/problem+json"


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """The whole document, ready to be encoded as JSON; `x-listener` says where an operation is served."""
    listed = list(operations)
    kinds = [kind for item in listed for kind in (item.body, item.answer) if isinstance(kind, type)]
    schemas, components = msgspec.json.schema_components([ProblemBody, *kinds], ref_template=_REFERENCE)
    by_kind = dict(zip([ProblemBody, *kinds], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for item in listed:
        paths.setdefault(item.path, {})[item.method.lower()] = _operation(item, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Heiwa",
            "version": version,
            "description": "The account is always the token's: what belongs to another is not found.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": _servers(Listener.OPERATIONS),
        "paths": paths,
        "components": {
            "schemas": in_json_words(components),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _servers(listener: Listener) -> list[dict[str, Any]]:
    """Where a listener is reached, with the default addresses of the settings."""
    return [
        {
            "url": "http://{host}:{port}",
            "description": _SERVERS[part][0],
            "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": _SERVERS[part][1]}},
        }
        for part in listener
    ]


def _operation(item: Operation, by_kind: dict[type, dict[str, Any]]) -> dict[str, Any]:
    built: dict[str, Any] = {
        "operationId": item.name,
        "summary": item.summary,
        "x-listener": [part.name.lower() for part in item.listener if part.name],
        "servers": _servers(item.listener),
        "security": [{"token": [item.scope]}] if item.scope else [],
        "responses": {str(status): _response(item, status, by_kind) for status in item.statuses},
    }
    parameters = _parameters(item)
    if parameters:
        built["parameters"] = parameters
    if item.body is not None:
        content = {kind: {"schema": _schema(item.body, by_kind)} for kind in item.body_types}
        built["requestBody"] = {"required": item.body_required, "content": content}
    return built


def _parameters(item: Operation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 128}}
        for name in re.findall(r"\{(\w+)\}", item.path)
    ]
    others = [
        {
            "name": parameter.name,
            "in": parameter.place,
            "description": parameter.description,
            "schema": dict(parameter.schema),
        }
        for parameter in item.parameters
    ]
    return in_path + others


def _response(item: Operation, status: int, by_kind: dict[type, dict[str, Any]]) -> dict[str, Any]:
    description = phrase(status)
    if status != item.status:
        return {"description": description, "content": {_PROBLEM: {"schema": by_kind[ProblemBody]}}}
    media_type = item.answer if isinstance(item.answer, str) else "application/json"
    schema = {"type": "string"} if isinstance(item.answer, str) else _schema(item.answer, by_kind)
    also = {name: {"schema": dict(other)} for name, other in item.also.items()}
    return {"description": description, "content": {media_type: {"schema": schema}, **also}}


def _schema(kind: Any, by_kind: dict[type, dict[str, Any]]) -> dict[str, Any]:
    return by_kind[kind] if isinstance(kind, type) else dict(kind)
