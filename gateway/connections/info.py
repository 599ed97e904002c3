"""What is told about a connection to people and scripts: records of the HTTP API."""

from __future__ import annotations

from msgspec import Struct

from gateway.wire.close_codes import Fault


class ConnectionInfo(Struct, frozen=True, gc=False):
    """One open connection of a device. All times are ms since the Unix epoch.

    `connection` is a UUIDv7, `address` the peer's IP address (the proxy's word for it where a proxy is trusted),
    `heard_ms` when its last frame came, `expires_ms` when its token ends. `device_class` is "" when it named none.
    `gateway` is the process that holds it, by a name that no other process has or had.
    """

    connection: str
    device: str
    device_class: str
    connected_ms: int
    address: str
    heard_ms: int
    expires_ms: int
    gateway: str = ""


class DisconnectInfo(Struct, frozen=True, gc=False):
    """How a device's last connection ended.

    `code` is the close code (1006: none was seen), `fault` whose doing it was: the peer's, ours, the network's, or a
    planned close.
    """

    time_ms: int
    code: int
    reason: str
    fault: Fault
