"""The peer's real address behind a load balancer: X-Forwarded-For, or a PROXY protocol header. Believed from trusted
proxies only.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.errors import SettingsError

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

# HAProxy, The PROXY protocol, 2.1 and 2.2.
_V1_MAX_BYTES = 107
_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEADER_BYTES = 16
_V2_MAX_BYTES = 4096
# AF_INET and AF_INET6: bytes of one address, and of both with their ports.
_V2_FAMILIES = {1: (4, 12), 2: (16, 36)}
# RFC 4291, 2.5.5.2: IPv4 as a dual-stack socket writes it.
_MAPPED = IPv6Network("::ffff:0:0/96")


class ProxyHeaderError(ValueError):
    """The bytes are not a PROXY protocol header."""


def parse_networks(key: str, text: str) -> Networks:
    """Networks separated by commas. Raises SettingsError for `key`."""
    try:
        return tuple(
            _unmapped_network(ip_network(part.strip(), strict=False)) for part in text.split(",") if part.strip()
        )
    except ValueError as error:
        raise SettingsError(key, f"{error}; write networks such as 10.0.0.0/8, separated by commas") from error


def _unmapped_network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """A network of mapped addresses as the IPv4 network that it stands for."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - _MAPPED.prefixlen))
    return network


def read_address(text: str) -> Address:
    """An address without its zone (`%eth0`); a mapped one is the IPv4 address. Raises ValueError."""
    return unmapped(ip_address(text.partition("%")[0]))


def unmapped(address: Address) -> Address:
    """The IPv4 address that a mapped one stands for; any other as it is."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def trusted(address: Address, networks: Networks) -> bool:
    """Whether the address belongs to one of our proxies."""
    return any(address in network for network in networks if network.version == address.version)


def forwarded_address(peer: Address, header: str, networks: Networks) -> Address:
    """The rightmost address in `X-Forwarded-For` that is not a trusted proxy; the peer's own unless it is one.

    A malformed entry ends the search: what stands left of it could have been written by anybody.
    """
    address = peer
    for part in reversed(header.split(",")):
        if not trusted(address, networks):
            return address
        try:
            address = read_address(_without_port(part.strip()))
        except ValueError:
            return address
    return address


def _without_port(text: str) -> str:
    """An ALB may add the client's port (`routing.http.xff_client_port.enabled`)."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def believed_header(peer: Address, data: bytes, networks: Networks) -> tuple[Address, int, bool] | None:
    """The address that a trusted proxy tells at the beginning of `data`, the length of its header, and whether that is
    a client's (else it is the proxy's own, for a check of its own). None: need more bytes. Raises ProxyHeaderError.
    """
    if not trusted(peer, networks):
        raise ProxyHeaderError("a PROXY protocol header is expected, from a trusted proxy only")
    found = read_proxy_header(data)
    if found is None:
        return None
    address, length = found
    return address or peer, length, address is not None


def read_proxy_header(data: bytes) -> tuple[Address | None, int] | None:
    """The source address (None: the proxy's own health check) and the length of the header; None: need more bytes.

    Raises ProxyHeaderError.
    """
    if _V2_SIGNATURE.startswith(data[: len(_V2_SIGNATURE)]):
        return _read_v2(data)
    if b"PROXY ".startswith(data[:6]) or data.startswith(b"PROXY "):
        return _read_v1(data)
    raise ProxyHeaderError("no PROXY protocol header")


def _read_v1(data: bytes) -> tuple[Address | None, int] | None:
    end = data.find(b"\r\n", 0, _V1_MAX_BYTES)
    if end < 0:
        if len(data) >= _V1_MAX_BYTES:
            raise ProxyHeaderError("the header has no end")
        return None
    parts = data[:end].split(b" ")
    if parts[1] == b"UNKNOWN":
        return None, end + 2
    try:
        _, family, source, _, *ports = parts
        address = ip_address(source.decode("ascii"))
    except ValueError as error:
        raise ProxyHeaderError("a malformed header") from error
    if len(ports) != 2 or not all(map(_is_port, ports)):
        raise ProxyHeaderError("a malformed header")
    if family != (b"TCP4" if address.version == 4 else b"TCP6"):
        raise ProxyHeaderError("family and address differ")
    return unmapped(address), end + 2


def _is_port(text: bytes) -> bool:
    """A whole number from 0 to 65535, without a sign or leading zeros (section 2.1 of the specification)."""
    return re.fullmatch(rb"0|[1-9][0-9]{0,4}", text) is not None and int(text) <= 65_535


def _read_v2(data: bytes) -> tuple[Address | None, int] | None:
    if len(data) < _V2_HEADER_BYTES:
        return None
    version_command, family, length = struct.unpack_from("!BBH", data, 12)
    if version_command >> 4 != 2 or version_command & 0xF > 1 or length > _V2_MAX_BYTES:
        raise ProxyHeaderError("a malformed header")
    end = _V2_HEADER_BYTES + length
    if len(data) < end:
        return None
    body = data[_V2_HEADER_BYTES:end]
    if version_command & 0xF == 0:  # LOCAL: the proxy speaks for itself
        return None, end
    address_bytes, addresses_bytes = _V2_FAMILIES.get(family >> 4, (0, 0))
    if len(body) < addresses_bytes:
        raise ProxyHeaderError("the header is too short for its addresses")
    return (unmapped(ip_address(body[:address_bytes])) if address_bytes else None), end
