"""The page about the HTTP API, from its OpenAPI document."""

from __future__ import annotations

from typing import Any

from gateway.api.application import all_routes
from gateway.api.openapi import document
from generator.markdown import join, kind, prose, table


def http_api() -> str:
    api = document([route.operation for route in all_routes()], "")
    parts = [
        "# HTTP API",
        "The OpenAPI 3.1 document is at `/api/v1/openapi.json` on the operations listener; this page is made from it. "
        f"{api['info']['description']}",
        "An error is a problem (RFC 9457, `application/problem+json`); `errors` names each bad field.",
    ]
    for path, item in api["paths"].items():
        for method, operation in item.items():
            parts.append(_operation(path, method, operation))
    parts.append("## Records")
    for name, schema in sorted(api["components"]["schemas"].items()):
        parts += [f"### {name}", prose(schema.get("description")), _record(schema)]
    return join(*parts)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    scopes = [scope for rule in operation["security"] for scope in rule["token"]]
    listeners = " and ".join(operation["x-listener"])
    who = f"scope `{scopes[0]}`" if scopes else "no scope"
    rows = [
        (f"`{one['name']}`", one["in"], kind(one["schema"]), one.get("description", ""))
        for one in operation.get("parameters", ())
    ]
    body = operation.get("requestBody")
    answers = [
        f"{status} {answer['description']}{_bracketed(_content(answer))}"
        for status, answer in operation["responses"].items()
    ]
    return join(
        f"## {method.upper()} {path}",
        operation["summary"],
        f"Listener: {listeners}; {who}.",
        table(("parameter", "in", "type", "meaning"), rows) if rows else "",
        f"Body{'' if body['required'] else ' (may be left out)'}: {_content(body)}." if body else "",
        f"Answers: {', '.join(answers)}.",
    )


def _content(holder: dict[str, Any]) -> str:
    for media, content in holder["content"].items():
        if media == "application/problem+json":
            return ""
        name = str(content["schema"].get("$ref", "")).rpartition("/")[2]
        return f"[`{name}`](#{name.lower()})" if name else kind(content["schema"])
    return ""


def _bracketed(text: str) -> str:
    return f" ({text})" if text else ""


def _record(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (f"`{name}`", "always" if name in required else "optional", kind(field).replace("#/components/schemas/", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("field", "present", "type"), rows) if rows else kind(schema)
