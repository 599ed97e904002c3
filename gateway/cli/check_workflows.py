"""`heiwa check`: the roles of this process, and the store of workflows that they share with others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from gateway.app.roles import Roles, is_embedded, roles_of
from gateway.app.workflow_parts import runners_on
from gateway.cli.result import Result
from gateway.drain.outlook import BAD, GOOD, WARN
from gateway.errors import UnreachableError
from gateway.settings.model import Settings

STORE, ROLES, HINT = "workflows.store_url", "serve.roles", "workflows.death_hint"


def results(settings: Settings) -> Iterator[Result]:
    """What this process is, and what does not fit that. Raises SettingsError."""
    roles = roles_of(settings)
    yield from _roles(settings, roles)
    if is_embedded(settings):
        yield Result(STORE, GOOD, "SQLite: this process holds the file, and is the only one that may use it")
    else:
        yield from asyncio.run(_postgres(settings, roles))


def _roles(settings: Settings, roles: Roles) -> Iterator[Result]:
    said = ", ".join(roles.names)
    if is_embedded(settings) and not roles.manager:
        mend = f"add the role manager, or set {STORE} to the PostgreSQL of the managers"
        yield Result(ROLES, WARN, f"{said}: on SQLite no other process can move workflows on", mend)
    elif roles.manager and not roles.gateway and not settings.broker.url and "device" in runners_on(settings.workflows):
        mend = "set broker.url, the same as the gateways'"
        yield Result(ROLES, WARN, f"{said}: without a broker its nodes of the runner device reach no device", mend)
    else:
        yield Result(ROLES, GOOD, said)


async def _postgres(settings: Settings, roles: Roles) -> list[Result]:
    from gateway.adapters.sql.engine import parse_url
    from gateway.adapters.sql.looking import look

    try:
        found = await look(parse_url(settings.workflows.store_url))
    except UnreachableError as error:
        mend = "let this machine reach it, and correct the address, the user or PGPASSWORD"
        return [Result(STORE, BAD, str(error), mend)]
    if found.schema is not None and found.schema > found.newest and not found.usable:
        said = f"{found.product}: schema {found.schema}, this version knows {found.newest}"
        return [Result(STORE, BAD, said, "use the newer version of the program that wrote it")]
    if not found.usable:
        what = "will be made" if found.schema is None else f"{found.schema} will be migrated to {found.newest}"
        rows = [Result(STORE, GOOD, f"{found.product}; the schema {what} at the start")]
    else:
        rows = [Result(STORE, GOOD, f"{found.product}, schema {found.schema}, {found.managers} managers at work")]
        if not found.leads and not roles.rebalancer:
            mend = "start a process with the role rebalancer"
            rows.append(Result("rebalancer", WARN, "none is active: nobody takes over for a manager that dies", mend))
        if not found.managers and not roles.manager:
            mend = "start a process with the role manager"
            rows.append(Result("manager", WARN, "none is at work: runs are stored, and begin when one is", mend))
    if found.pooled and settings.workflows.death_hint:
        said = "a pooler stands between: the death of a manager is seen when its lease has run out"
        rows.append(Result(HINT, WARN, said, f"let managers reach the server itself, or set {HINT} = false"))
    return rows
