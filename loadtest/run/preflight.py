"""Checks before the first connection of a run: targets, tokens, tracks."""

from __future__ import annotations

import ipaddress
import socket
import time
from urllib.parse import urlsplit

from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from gateway.device import track_file
from gateway.errors import SettingsError, UnreachableError
from gateway.identity.token import mint
from loadtest.fleet.tracks import track_paths

TIMEOUT_S = 10.0
DEVICE = "preflight"


def check_target(url: str, secret: str, account: str) -> None:
    """Open one websocket as a device. Blocks. Raises SettingsError or UnreachableError saying what to change."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise SettingsError("--target", f"{url!r} is not a websocket address; write wss://gateway.example/ws")
    claims = {"sub": DEVICE, "account": account, "scope": "location:write", "exp": time.time() + 600}
    try:
        with connect(
            url,
            subprotocols=[Subprotocol("heiwa.v1.json")],
            additional_headers={"Authorization": f"Bearer {mint(claims, secret.encode())}"},
            proxy=None,
            compression=None,
            open_timeout=TIMEOUT_S,
        ):
            pass
    except InvalidStatus as error:
        status = error.response.status_code
        if status in (401, 403):
            raise SettingsError(
                "--secret-file", f"{url} refuses the token made with it ({status}); name the secret of that gateway"
            ) from error
        hint = "; is the path right? devices connect to /ws" if status == 404 else ""
        raise UnreachableError(f"{url} refuses a device with {status}{hint}") from error
    except (InvalidHandshake, WebSocketException) as error:
        raise UnreachableError(f"{url} does not speak websocket: {error}") from error
    except (OSError, TimeoutError) as error:
        raise UnreachableError(f"{url} cannot be reached: {error}") from error


def check_tracks(given: str) -> list[str]:
    """Read the GPX files of a fleet; returns notes for a person. Raises SettingsError naming the file."""
    paths = track_paths(given)
    said = [track_file.note(path, track_file.read(path, "fleet.tracks")) for path in paths]
    return [line for line in said if line]


def is_local(url: str) -> bool:
    """Whether a URL leads to this machine's loopback, where a fleet needs source addresses of its own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, family=socket.AF_INET)
    except OSError:
        return False
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)
