"""Addresses that devices connect to, and loopback addresses that they connect from."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.errors import SettingsError


class WebsocketTarget(NamedTuple):
    """Where to connect. `tls`: the scheme is `wss`."""

    url: str
    host: str
    port: int
    path: str
    tls: bool

    @property
    def loopback(self) -> bool:
        return self.host.startswith("127.") or self.host == "localhost"


def target(url: str) -> WebsocketTarget:
    """Parse a URL. Raises SettingsError unless it is `ws://host[:port]/path` or `wss://…`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError("urls", f"{url!r}: {error}") from error
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise SettingsError("urls", f"{url!r} is not ws://host:port/ws or wss://host/ws")
    tls = parts.scheme == "wss"
    path = (parts.path or "/ws") + (f"?{parts.query}" if parts.query else "")
    return WebsocketTarget(url, parts.hostname, port or (443 if tls else 80), path, tls)


def loopback(number: int) -> str:
    """A source address on this machine: 127.0.0.2, … 127.0.1.2, …; 127.0.0.1 is left to servers."""
    block, last = divmod(number, 250)
    return f"127.0.{block}.{2 + last}"
