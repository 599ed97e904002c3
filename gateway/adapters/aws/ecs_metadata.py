"""The task metadata endpoint of Amazon ECS, version 4: which task and container this process is in.

Amazon ECS developer guide, "Amazon ECS task metadata endpoint version 4" and its JSON response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from msgspec import MsgspecError, Struct, field, json

from gateway.errors import CallError, CallErrorKind

if TYPE_CHECKING:
    from aiohttp import ClientSession

VARIABLE = "ECS_CONTAINER_METADATA_URI_V4"
# The endpoint is on the same host; the SDK gives it as long.
TIMEOUT_S = 2.0
AWSVPC = "awsvpc"
HOST = "host"

Record = TypeVar("Record", bound="Struct")


class Network(Struct, rename="pascal", frozen=True):
    network_mode: str = ""
    ipv4_addresses: list[str] = field(default_factory=list, name="IPv4Addresses")
    ipv6_addresses: list[str] = field(default_factory=list, name="IPv6Addresses")


class ContainerRecord(Struct, rename="pascal", frozen=True):
    """The answer of the endpoint itself: the container that asks."""

    name: str
    networks: list[Network] = []


class TaskRecord(Struct, rename="pascal", frozen=True):
    """The answer of `/task`. `Cluster` is an ARN or a short name; `ServiceName` is not on every platform."""

    cluster: str
    task_arn: str = field(name="TaskARN")
    family: str = ""
    revision: str = ""
    service_name: str = ""


class Identity(Struct, frozen=True):
    """The task this process is in.

    `address`: the task's own one with network mode `awsvpc`; "" with `bridge` and `host`, where the target is the
    instance. `also`: its other ones, for a task may have two stacks. `service` is "" when the endpoint does not say.
    """

    task: str
    cluster: str
    definition: str
    container: str
    service: str
    address: str
    network_mode: str
    also: tuple[str, ...] = ()


def present(environment: Mapping[str, str]) -> bool:
    """Whether this process runs on ECS."""
    return bool(environment.get(VARIABLE))


def identity(task: bytes, container: bytes) -> Identity:
    """What the two JSON answers say. Raises CallError when they do not say enough."""
    whole, own = _decoded(task, TaskRecord), _decoded(container, ContainerRecord)
    network = next(iter(own.networks), Network())
    addresses: list[str] = []
    if network.network_mode == AWSVPC:
        addresses = [one for each in own.networks for one in each.ipv4_addresses]
        addresses += [one for each in own.networks for one in each.ipv6_addresses]
        if not addresses:
            raise CallError(CallErrorKind.OTHER, "the task metadata endpoint names no address of the task yet")
    definition = f"{whole.family}:{whole.revision}" if whole.family and whole.revision else ""
    address = addresses[0] if addresses else ""
    return Identity(
        task=whole.task_arn,
        cluster=whole.cluster,
        definition=definition,
        container=own.name,
        service=whole.service_name,
        address=address,
        network_mode=network.network_mode,
        also=tuple(addresses[1:]),
    )


async def read(environment: Mapping[str, str]) -> Identity:
    """Ask the endpoint that the environment names. Raises CallError."""
    uri = environment.get(VARIABLE, "")
    if not uri:
        raise CallError(CallErrorKind.OTHER, f"{VARIABLE} is not set: this is not an ECS task")
    # A server that asks nobody does not load the client.
    from aiohttp import ClientError, ClientSession, ClientTimeout

    try:
        # It is a plain address on the host's own link: a proxy for the internet must not see it.
        async with ClientSession(timeout=ClientTimeout(total=TIMEOUT_S), trust_env=False) as session:
            container, task = await _get(session, uri), await _get(session, f"{uri.rstrip('/')}/task")
    except (TimeoutError, OSError, ClientError, ValueError) as error:
        problem = f"the task metadata endpoint cannot be reached ({type(error).__name__})"
        raise CallError(CallErrorKind.UNREACHABLE, problem) from error
    return identity(task, container)


async def _get(session: ClientSession, url: str) -> bytes:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            problem = f"the task metadata endpoint answered with HTTP {response.status}"
            raise CallError(CallErrorKind.UNREACHABLE, problem)
        return await response.read()


def _decoded(answer: bytes, record: type[Record]) -> Record:
    try:
        return json.decode(answer, type=record)
    except (MsgspecError, UnicodeDecodeError) as error:
        raise CallError(CallErrorKind.OTHER, "the task metadata endpoint gave no usable answer") from error
