"""Why a device dropped, from a running gateway, for the command line."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gateway.cli.access import remote
from gateway.settings.model import Settings


def ask(settings: Settings, device: str, account: str, url: str, token: str) -> dict[str, Any]:
    """What the gateway knows of its connections. Raises RefusedError when that is nothing."""
    path = f"/api/v1/devices/{quote(device, safe='')}/connections"
    return remote(settings, url, token, account, "device:read").call("GET", path)
