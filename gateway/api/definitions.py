"""Definitions of workflows: put, list, look at."""

from __future__ import annotations

import re

from aiohttp import web

from gateway.api.call import Call, answer
from gateway.api.operation import Listener, Operation, Parameter
from gateway.api.parameters import CURSOR, LIMIT
from gateway.api.problem import Problem
from gateway.api.route import Route
from gateway.api.workflow_records import (
    MAX_VERSION,
    DefinitionAnswer,
    DefinitionInList,
    DefinitionsPage,
    definition_answer,
)
from gateway.api.workflow_refusals import known, refusals, whole
from gateway.errors import QueryError
from gateway.locations.query import DEFAULT_LIMIT, MAX_LIMIT
from gateway.workflows.expression import NAME

_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_NAME = re.compile(rf"{NAME}")


async def put(call: Call) -> web.StreamResponse:
    """Check it; store it as a new version, unless it is the newest one already."""
    query = known(call, ("dry_run",))
    dry_run = query.get("dry_run", "false")
    if dry_run not in ("true", "false"):
        raise QueryError("dry_run", "must be true or false")
    payload = await call.body(("application/json", *_YAML))
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, "the body is not UTF-8") from error
    yaml = call.request.content_type in _YAML
    with refusals():
        service = await call.api.workflows.service()
        account, admin = call.identity.account, call.identity.may("admin")
        done = await service.put(account, text, yaml=yaml, admin=admin, dry_run=dry_run == "true")
    return answer(definition_answer(done.definition, done.stored))


async def page(call: Call) -> web.StreamResponse:
    """The newest versions, by name."""
    query = known(call, ("limit", "cursor"))
    limit = whole(query, "limit", 1, MAX_LIMIT, DEFAULT_LIMIT)
    after = query.get("cursor", "")
    if after and not _NAME.fullmatch(after):
        raise QueryError("cursor", "is not one that this list returned; start again without it")
    with refusals():
        service = await call.api.workflows.service()
        found = await service.definitions(call.identity.account, after, limit + 1)
    shown = [DefinitionInList(one.name, one.version, one.sha256, one.created_ms) for one in found[:limit]]
    return answer(DefinitionsPage(shown, shown[-1].name if len(found) > limit else None))


async def one(call: Call) -> web.StreamResponse:
    """One version, or the newest one."""
    query = known(call, ("version",))
    version = whole(query, "version", 1, MAX_VERSION, 0) or None
    name = call.request.match_info["definition"]
    if not _NAME.fullmatch(name):
        raise Problem(404, "there is no such definition")
    with refusals():
        service = await call.api.workflows.service()
        stored, definition = await service.definition(call.identity.account, name, version)
    return answer(definition_answer(definition, stored))


ROUTES = (
    Route(
        Operation(
            "PUT",
            "/api/v1/definitions",
            "putDefinition",
            "Check a definition of a workflow and store it: a new version, unless it is the newest one already.",
            "workflow:write",
            Listener.OPERATIONS,
            DefinitionAnswer,
            parameters=(
                Parameter(
                    "dry_run", "Only check it.", {"type": "string", "enum": ["true", "false"], "default": "false"}
                ),
            ),
            body={"type": "object", "description": "See workflow.schema.json."},
            body_types=("application/json", "application/yaml"),
            errors=(422, 503),
        ),
        put,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/definitions",
            "listDefinitions",
            "The newest version of each definition, by name.",
            "workflow:read",
            Listener.OPERATIONS,
            DefinitionsPage,
            parameters=(LIMIT, CURSOR),
            errors=(503,),
        ),
        page,
    ),
    Route(
        Operation(
            "GET",
            "/api/v1/definitions/{definition}",
            "getDefinition",
            "One version of a definition, the newest one unless told otherwise.",
            "workflow:read",
            Listener.OPERATIONS,
            DefinitionAnswer,
            parameters=(
                Parameter("version", "Which version.", {"type": "integer", "minimum": 1, "maximum": MAX_VERSION}),
            ),
            errors=(404, 503),
        ),
        one,
    ),
)
