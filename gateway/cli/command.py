"""Sends one command to a device, for the command line."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from gateway.cli.access import remote
from gateway.cli.remote import idempotency
from gateway.decoding import standard_json
from gateway.errors import SettingsError
from gateway.identity.minting import duration_s
from gateway.settings.model import Settings

MAX_DEADLINE_S = 60.0
# The gateway answers at the deadline; the answer needs a moment to get here.
_MARGIN_S = 5.0


def send(
    settings: Settings,
    device: str,
    name: str,
    args: str,
    account: str,
    deadline: str,
    url: str,
    token: str,
    *,
    idempotent: bool = False,
    key: str | None = None,
) -> str:
    """The device's value as JSON. Raises RefusedError with the reason when there is none."""
    try:
        value = standard_json(args)
    except ValueError as error:
        raise SettingsError("ARGS", f"{args!r} is not JSON: {error}") from error
    wait_s = duration_s(deadline, "--deadline")
    if wait_s > MAX_DEADLINE_S:
        raise SettingsError("--deadline", f"must be at most {MAX_DEADLINE_S:g} s")
    body: dict[str, Any] = {"name": name, "args": value, "deadline_ms": max(1, round(wait_s * 1000))}
    if idempotent:
        body["idempotent"] = True
    headers = idempotency(key)
    path = f"/api/v1/devices/{quote(device, safe='')}/commands"
    answer = remote(settings, url, token, account, "command:send").call("POST", path, body, wait_s + _MARGIN_S, headers)
    return json.dumps(answer["value"], ensure_ascii=False)
