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
# Addresses that end in the IPv4 address that they stand for (RFC 6052, 2.1; RFC 4291, 2.5.5.1; RFC 2765, 2.1).
_ENDING = tuple(ipaddress.IPv6Network(one) for one in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96"))
# Of a site's own translator, which decides what they stand for (RFC 8215); older Pythons call them global.
_OF_A_SITE = ipaddress.IPv6Network("64:ff9b:1::/48")


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
        if not one.is_global or one.is_multicast or one in _OF_A_SITE:
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
        if host.replace(".", "").isdigit():
            # To the system `127.1` is an address, too, and clients may not ask for it as for a name.
            raise ForbiddenAddressError(f"{host} is no address in the usual form") from None
        return
    check_address(host, allowed)


def parse_networks(text: str) -> list[Any]:
    """Networks (CIDR) from a setting. Raises ValueError naming the one at fault."""
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]
