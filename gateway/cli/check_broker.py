"""`heiwa check`: the broker through which several gateways reach each other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping

from gateway.app.peering import broker_access
from gateway.cli.result import Result
from gateway.drain.outlook import BAD, GOOD, WARN
from gateway.errors import UnreachableError
from gateway.settings.model import Settings

NAME = "broker.url"
_KEEPS = ("", "noeviction")


def results(settings: Settings, environment: Mapping[str, str] = os.environ) -> Iterator[Result]:
    """What it is, and what a gateway may not do there. Raises SettingsError."""
    if not settings.broker.url:
        yield _alone(settings, environment)
        return
    access = broker_access(settings.broker)
    from gateway.adapters.redis.looking import look

    try:
        found = asyncio.run(look(access))
    except UnreachableError as error:
        mend = "let this machine reach it, and correct the address, the user or the password"
        yield Result(NAME, BAD, str(error), mend)
        return
    kind = "sharded" if found.sharded else "plain"
    said = f"{found.product} {found.version}, {kind} publish and subscribe"
    if found.refused:
        yield Result(NAME, BAD, found.refused, f"allow commands on the keys and channels {access.key('*')}")
    else:
        yield Result(NAME, GOOD, said)
    if found.eviction not in _KEEPS:
        mend = "set maxmemory-policy to noeviction: an entry that is dropped hides a connected device for up to 2 hours"
        yield Result("broker memory", WARN, f"{found.eviction}: the server drops keys when it is full", mend)


def _alone(settings: Settings, environment: Mapping[str, str]) -> Result:
    on_ecs = "ECS_CONTAINER_METADATA_URI_V4" in environment
    if settings.drain.target_group_arns or (on_ecs and settings.drain.enabled):
        said = "no broker behind a load balancer: each task reaches only the devices that it holds itself"
        return Result(NAME, WARN, said, f"set {NAME}, unless there is one task only")
    return Result(NAME, GOOD, "not set: this is the only gateway")
