import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from gateway.api.application import all_routes, build_jobs, build_operations, build_public
from gateway.api.context import Api
from gateway.api.openapi import document
from gateway.api.operation import Listener, Operation, Parameter
from gateway.identity.identity import SCOPES

METHODS = {"get", "put", "post", "delete", "patch"}
DOCUMENT: dict[str, Any] = json.loads(
    msgspec.json.encode(document([route.operation for route in all_routes()], "1.2.3"))
)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def test_every_route_is_in_the_document_and_the_reverse() -> None:
    # No route is called.
    api = cast("Api", SimpleNamespace(max_message_bytes=1))
    served: set[tuple[str, str, str]] = set()
    for listener, build in (
        (Listener.PUBLIC, build_public),
        (Listener.OPERATIONS, build_operations),
        (Listener.JOBS, build_jobs),
    ):
        for route in build(api).router.routes():
            assert route.resource is not None
            # A websocket is no operation: the AsyncAPI document describes it.
            if route.method != "HEAD" and route.resource.canonical != "/ws":
                served.add((listener.name or "", route.method.lower(), route.resource.canonical))
    documented = {
        (listener.upper(), method, path)
        for path, method, operation in operations()
        for listener in operation["x-listener"]
    }
    assert documented == served


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["title"]
    assert DOCUMENT["info"]["version"] == "1.2.3"
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    for path, method, operation in operations():
        assert path.startswith("/")
        assert method in METHODS
        assert operation["summary"].endswith(".")
        assert any(status.startswith("2") for status in operation["responses"])
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert response["description"]
        named = {(item["name"], item["in"]) for item in operation.get("parameters", [])}
        assert len(named) == len(operation.get("parameters", []))
        assert {name for name, where in named if where == "path"} == set(re.findall(r"\{(\w+)\}", path))
        for item in operation.get("parameters", []):
            assert item["in"] in ("path", "query", "header")
            assert item["in"] != "path" or item["required"] is True


def test_every_reference_leads_somewhere() -> None:
    references = [node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node]
    assert references
    for reference in references:
        at: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
        assert at


def test_every_error_is_a_problem() -> None:
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            expected = "application/problem+json" if int(status) >= 400 else None
            assert expected is None or list(response["content"]) == [expected]


def test_every_array_says_what_it_holds() -> None:
    assert not [node for node in nodes(DOCUMENT) if node.get("type") == "array" and "items" not in node]


def test_every_parameter_is_bounded() -> None:
    bounds = {"string": {"minLength", "maxLength"}, "integer": {"minimum", "maximum"}, "number": {"minimum", "maximum"}}
    for path, _, operation in operations():
        for item in operation.get("parameters", []):
            if (path, item["name"]) != ("/readyz", "verbose"):
                for schema in item["schema"].get("anyOf", [item["schema"]]):
                    assert "enum" in schema or bounds[schema["type"]] <= set(schema), (path, item)


def test_no_word_of_python_is_told() -> None:
    words = re.compile(r"\b(None|True|False|dict|tuple|Struct|msgspec|self)\b")
    for node in nodes(DOCUMENT):
        for key in ("description", "summary"):
            assert not isinstance(node.get(key), str) or not words.search(node[key]), node[key]


def test_every_operation_says_where_it_is_served() -> None:
    ports = {"public": "8080", "operations": "8081", "jobs": "8082"}
    assert DOCUMENT["servers"]
    for _, _, operation in operations():
        found = [server["variables"]["port"]["default"] for server in operation["servers"]]
        assert found == [ports[listener] for listener in operation["x-listener"]]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("bbox", ["-180,-90,180,90", "1.5,2,-3e1,.5", "+1,1.,1,1"], ["", "1,2,3", "1,2,3,4,5", "1_0,2,3,4", "a,b,c,d"]),
        ("near", ["35.68,139.76"], ["", "1", "1,2,3", "１,2", "nan,1"]),
        ("cursor", ["", "W10", "a-_9"], ["a b", "a=", "é"]),
    ],
)
def test_patterns_say_what_is_taken(name: str, good: list[str], bad: list[str]) -> None:
    parameters = DOCUMENT["paths"]["/api/v1/locations/search"]["get"]["parameters"]
    pattern = re.compile(next(item["schema"]["pattern"] for item in parameters if item["name"] == name))
    assert all(pattern.search(text) for text in good)
    assert not any(pattern.search(text) for text in bad)


def test_every_scope_exists() -> None:
    for _, _, operation in operations():
        for requirement in operation["security"]:
            assert set(requirement["token"]) <= SCOPES


def test_the_event_carries_its_bounds() -> None:
    event = DOCUMENT["components"]["schemas"]["LocationEvent"]
    assert event["properties"]["lat"] == {"type": "number", "minimum": -90, "maximum": 90}
    assert {"id", "time", "lat", "lon"} == set(event["required"])


@pytest.mark.parametrize(
    ("operation", "statuses"),
    [
        (Operation("GET", "/", "a", "A.", None, Listener.BOTH, None), [200, 500]),
        (Operation("GET", "/", "a", "A.", "admin", Listener.BOTH, None, errors=(404,)), [200, 401, 403, 404, 500]),
        (
            Operation("GET", "/", "a", "A.", None, Listener.BOTH, None, parameters=(Parameter("x", "X."),)),
            [200, 400, 414, 500],
        ),
        (Operation("PUT", "/", "a", "A.", None, Listener.BOTH, None, 202, body={}), [202, 400, 408, 413, 415, 500]),
    ],
)
def test_statuses_follow_from_the_operation(operation: Operation, statuses: list[int]) -> None:
    assert operation.statuses == statuses
