"""Names of machines."""

from __future__ import annotations

from ipaddress import ip_address


def is_local(host: str) -> bool:
    """Whether a host, by name or address, is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
