"""How a command reaches a running gateway: the address of the settings, and a token made with the local key."""

from __future__ import annotations

import time

from gateway.cli.remote import Remote
from gateway.identity.minting import Minter
from gateway.settings.model import Settings
from gateway.wire.listener import local_address

# Made anew for each call, so that one that is read in transit is soon worthless.
_TOKEN_LIFE_S = 300


def remote(settings: Settings, url: str, token: str, account: str, scope: str) -> Remote:
    """`url` "": the operations listener of the settings; `token` "": one is made. Raises SettingsError."""
    minter = None if token else Minter(settings)

    def held() -> str:
        if minter is None:
            return token
        return minter.mint("operator", account, scope, "", time.time(), _TOKEN_LIFE_S).token

    local = "" if url else f"http://{local_address('listen.operations', settings.listen.operations, '--url')}"
    return Remote(url or local, held)
