"""Where a process listens: addresses of the settings, and sockets bound to them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from gateway.errors import SettingsError
from gateway.settings.model import Settings
from gateway.wire.listener import Address, SocketOptions, open_socket, parse_addresses

_OPERATIONS_BACKLOG = 128


class Listening(NamedTuple):
    """An address to listen on. `name` is that of its listener: public, operations or jobs."""

    name: str
    address: Address
    options: SocketOptions

    @property
    def key(self) -> str:
        """The setting it comes from."""
        return f"listen.{self.name}"


class Bound(NamedTuple):
    """A socket that is bound and does not listen yet."""

    listening: Listening
    socket: socket.socket


def listenings(settings: Settings) -> Iterator[Listening]:
    """Every address that the settings name. Raises SettingsError."""
    listen, connections = settings.listen, settings.connections
    public = SocketOptions(
        listen.backlog, listen.reuse_port, connections.send_buffer_bytes, int(connections.heartbeat_s * 2000)
    )
    for address in parse_addresses("listen.public", listen.public):
        yield Listening("public", address, public)
    for address in parse_addresses("listen.operations", listen.operations):
        yield Listening("operations", address, SocketOptions(_OPERATIONS_BACKLOG))
    if listen.jobs:
        for address in parse_addresses("listen.jobs", listen.jobs):
            yield Listening("jobs", address, SocketOptions(_OPERATIONS_BACKLOG))


def bind(listening: Listening, others: list[Bound]) -> Bound:
    """Bind one address. Raises SettingsError when one of the `others` has it, ListenError when another program has it.

    The kernel does not tell the first: until one of them listens, two sockets may have one address.
    """
    opened = open_socket(listening.key, listening.address, listening.options)
    for other in others:
        if _overlap(opened, other.socket):
            opened.close()
            same = f"{listening.address} is taken by {other.listening.key} = {other.listening.address}"
            raise SettingsError(listening.key, f"{same}; each needs a port of its own")
    return Bound(listening, opened)


def jobs_url(settings: Settings, bound: list[Bound]) -> str:
    """What jobs are told; "": there is no listener for them."""
    if not settings.listen.jobs:
        return ""
    if settings.workflows.jobs_url:
        return settings.workflows.jobs_url.rstrip("/")
    host, port = next(one.socket.getsockname()[:2] for one in bound if one.listening.name == "jobs")
    return f"http://{Address(host, port)}"


def _overlap(one: socket.socket, other: socket.socket) -> bool:
    if one.family != other.family:
        return False
    hosts_and_ports = [bound.getsockname()[:2] for bound in (one, other)]
    (host, port), (other_host, other_port) = hosts_and_ports
    anywhere = any(ip_address(name.partition("%")[0]).is_unspecified for name in (host, other_host))
    return bool(port == other_port and (host == other_host or anywhere))
