"""Which addresses the requests of tenants may go to: public ones, and what the operator lists.

What a name means is asked once, and the connection goes to the address that was looked at: a name that means something
else a moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

Networks = Sequence[IPv4Network | IPv6Network]
# Addresses that end in the IPv4 address that they stand for (RFC 6052, 2.1; RFC 4291, 2.5.5.1).
_ENDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))


class ForbiddenAddressError(OSError):
    """A request may not go there. An OSError, so that a client takes it for a failed connection."""


def check_address(text: str, allowed: Networks, name: str = "") -> None:
    """Raises ForbiddenAddressError for an address that is neither public nor in `allowed`.

    `name` is what it was found by; a tenant is not told what it means here.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if any(address in network for network in allowed):
        return
    for one in (address, *_inside(address)):
        if not one.is_global or one.is_multicast:
            told = f"{name} leads to an address that is not public" if name else f"{text} is no public address"
            raise ForbiddenAddressError(f"{told}, and not in workflows.http_networks")


def _inside(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _ENDING):
        found.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return [one for one in found if one is not None]


class GuardedResolver(AbstractResolver):
    """Gives a client only addresses that it may go to."""

    def __init__(self, allowed: Networks) -> None:
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises ForbiddenAddressError when one of the addresses is forbidden."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results: list[ResolveResult] = []
        for kind, _, protocol, _, where in found:
            check_address(str(where[0]), self._allowed, host)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(where[0]),
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is held."""


def check_literal(host: str | None, allowed: Networks) -> None:
    """Clients resolve no addresses that are written as numbers: those are looked at here. Raises
    ForbiddenAddressError."""
    if host is None:
        raise ForbiddenAddressError("there is no host in the address")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    check_address(host, allowed)


def parse_networks(text: str) -> list[Any]:
    """Networks (CIDR) from a setting. Raises ValueError naming the one at fault."""
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]
