"""What `heiwa serve` makes of the settings before it starts anything, and `heiwa check` to find what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from random import Random

from gateway.adapters.aws import ecs_metadata
from gateway.adapters.aws.ecs_deployments import EcsDeployments
from gateway.adapters.aws.elbv2 import ElbTargetHealth, to_be_watched
from gateway.adapters.jwks_endpoint import JwksEndpoint
from gateway.adapters.key_set_file import KeySetFile
from gateway.adapters.sqlite.readers import FILES_EACH, MAX_READERS, MIN_READERS
from gateway.app import location_parts, workflow_parts
from gateway.app.roles import roles_of
from gateway.clock import Clock
from gateway.drain.ports import Deployments, TargetHealth
from gateway.errors import CallError, SettingsError
from gateway.identity.auth import Authenticator
from gateway.identity.key_refresh import KeyRefresh
from gateway.settings.model import Auth, Settings, Telemetry
from gateway.telemetry.emf import Collecting, EmfReporter
from gateway.wire.listener import parse_addresses
from gateway.wire.proxy import parse_networks

_TARGET_GROUP = re.compile(r"arn:[a-z-]+:elasticloadbalancing:[a-z0-9-]+:[0-9]+:targetgroup/[^/\s]+/[^/\s]+")
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_TARGET = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\s\[\]]+)):(?P<port>[0-9]{1,5})")


def consistent(settings: Settings) -> None:
    """Raises SettingsError for settings that are fine one by one, and not together."""
    location_parts.consistent(settings.locations)
    workflow_parts.consistent(settings.workflows)
    roles_of(settings)
    listen = settings.listen
    if listen.proxy_protocol and not parse_networks("listen.trusted_proxies", listen.trusted_proxies):
        raise SettingsError(
            "listen.proxy_protocol",
            "needs listen.trusted_proxies: the header is believed from a trusted proxy only, all others are refused",
        )
    if listen.jobs and not settings.workflows.jobs_url:
        for address in parse_addresses("listen.jobs", listen.jobs):
            if address.host in _ANYWHERE:
                raise SettingsError(
                    "workflows.jobs_url", f"is needed: jobs cannot call {address}, which listen.jobs names"
                )
    minimum, _, maximum = settings.connections.max_age_h.partition("-")
    if maximum and float(minimum) > float(maximum):
        raise SettingsError("connections.max_age_h", f"{minimum}-{maximum}: the first number is above the second")


def shared_key(settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
    """Raises SettingsError where each of several tasks would make a key of its own."""
    auth = settings.auth
    if auth.secret or auth.secret_file or auth.public_key_file or auth.jwks_url:
        return
    if to_be_watched(target_groups(settings), environment):
        raise SettingsError(
            "auth.secret",
            "no key is set, and of the tasks behind a load balancer each would make its own and refuse the tokens of "
            "the others; set HEIWA_AUTH__SECRET (the same for all), auth.secret_file, auth.public_key_file or "
            "auth.jwks_url",
        )


def http_maximum(settings: Settings, file_limit: int) -> int:
    """How many HTTP connections the public listener holds: few where files are short."""
    connections = settings.connections
    return max(1, min(connections.http_maximum, (file_limit - connections.file_reserve) // 4))


def index_readers(settings: Settings, file_limit: int) -> int:
    """How many days the index keeps open for searches: with many files more than those that the reserve holds."""
    room = max(0, file_limit - settings.connections.file_reserve)
    return min(MAX_READERS, MIN_READERS + room // (32 * FILES_EACH))


def connections_maximum(settings: Settings, file_limit: int) -> int:
    """How many connections this process takes within a limit of open files. Raises SettingsError."""
    connections = settings.connections
    http = http_maximum(settings, file_limit)
    searches = (index_readers(settings, file_limit) - MIN_READERS) * FILES_EACH
    http += settings.listen.jobs_maximum if settings.listen.jobs else 0
    room = file_limit - connections.file_reserve - http - searches
    maximum = connections.maximum or room
    if maximum < 1 or maximum > room:
        raise SettingsError(
            "connections.maximum",
            f"{maximum} websockets, {http} HTTP connections, {searches} files of the index and file_reserve "
            f"{connections.file_reserve} do not fit the limit of {file_limit} open files; raise the limit (ulimit -n, "
            "nofile) or lower the setting",
        )
    return maximum


def key_refresh(
    auth: Auth, authenticator: Authenticator, folder: Path, clock: Clock, chance: Random
) -> KeyRefresh | None:
    """What keeps the keys of an issuer up to date; None: the key is in a file. Raises SettingsError."""
    if authenticator.keys is None:
        return None
    return KeyRefresh(authenticator.keys, JwksEndpoint(auth.jwks_url), KeySetFile(folder, auth.jwks_url), clock, chance)


def emf_reporter(telemetry: Telemetry, registry: Collecting, clock: Clock, role: str) -> EmfReporter:
    """What writes metrics for CloudWatch into the log, as those of a `role`."""

    async def revision() -> str:
        if telemetry.revision or not ecs_metadata.present(os.environ):
            return telemetry.revision
        try:
            return (await ecs_metadata.read(os.environ)).definition.rpartition(":")[2]
        except CallError:
            return ""

    return EmfReporter(registry, clock.time_ms, telemetry.service, role, revision)


def target_groups(settings: Settings) -> list[str]:
    """The ARNs of drain.target_group_arns."""
    return [arn.strip() for arn in settings.drain.target_group_arns.split(",") if arn.strip()]


def target_health(settings: Settings) -> TargetHealth | None:
    """What to ask about our place behind a load balancer; None: there is none, and no SDK is loaded."""
    drain = settings.drain
    groups = target_groups(settings)
    if drain.target and not groups:
        raise SettingsError("drain.target", "needs drain.target_group_arns: nothing else says which groups it is in")
    if drain.target:
        _own_target(drain.target)
    if not drain.enabled or not to_be_watched(groups, os.environ):
        return None
    for arn in groups:
        if not _TARGET_GROUP.fullmatch(arn):
            raise SettingsError(
                "drain.target_group_arns",
                f"{arn!r} is not the ARN of a target group; one is arn:aws:elasticloadbalancing:REGION:ACCOUNT:"
                "targetgroup/NAME/ID",
            )
    if drain.target:
        return ElbTargetHealth(groups, *_own_target(drain.target))
    return ElbTargetHealth(groups, "", parse_addresses("listen.public", settings.listen.public)[0].port)


def deployments(settings: Settings) -> Deployments | None:
    """What to ask about the deployment of our service; None: nothing is to follow it, or this is no ECS task."""
    drain = settings.drain
    if not (drain.enabled and drain.follow_weights and ecs_metadata.present(os.environ)):
        return None
    return EcsDeployments()


def _own_target(text: str) -> tuple[str, int]:
    """Address or instance id, and port. Raises SettingsError."""
    found = _TARGET.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65_535:
        raise SettingsError(
            "drain.target",
            f"{text!r} is not a target; write 10.0.1.7:8080, [2001:db8::7]:8080 or i-0abc:32768, with a port from 1 to "
            "65535",
        )
    return found["v6"] or found["host"], int(found["port"])
