"""Tokens made with the key that the gateway on this machine checks them with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from gateway.errors import SettingsError
from gateway.identity.identity import SCOPES, name_problem
from gateway.identity.key_files import shared_secret
from gateway.identity.token import mint, scopes_of
from gateway.settings.model import Settings

DEVICE_SCOPE = "location:write command:receive"
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S = 10 * 365 * 86_400


class Minted(NamedTuple):
    """A signed token and what it says; `expires_s` in seconds since the Unix epoch."""

    token: str
    claims: dict[str, object]
    expires_s: int


class Minter:
    """Makes tokens; reads the key once. Raises SettingsError where the settings leave only a public key."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secret = _secret(settings)

    def mint(self, subject: str, account: str, scope: str, device_class: str, now_s: float, ttl_s: float) -> Minted:
        """A token that holds from `now_s` for `ttl_s`. Raises SettingsError naming the option at fault."""
        for option, value in (("--sub", subject), ("--account", account)):
            if not value:
                raise SettingsError(option, "must not be empty")
        for option, value in (("--sub", subject), ("--account", account), ("--class", device_class)):
            if problem := name_problem(value):
                raise SettingsError(option, problem)
        _check_scope(scope)
        expires_s = int(now_s + ttl_s)
        claims: dict[str, object] = {
            "sub": subject,
            "account": account,
            "scope": scope,
            "iat": int(now_s),
            "exp": expires_s,
        }
        auth = self._settings.auth
        optional = {"class": device_class, "iss": auth.issuer, "aud": auth.audience}
        claims.update({name: value for name, value in optional.items() if value})
        return Minted(mint(claims, self._secret), claims, expires_s)


def duration_s(text: str, option: str) -> float:
    """`90`, `90s`, `15m`, `24h` or `7d` in seconds. Raises SettingsError for anything else, zero included."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", text.strip(), re.ASCII)
    seconds = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if not 0 < seconds <= _LONGEST_S:
        raise SettingsError(option, f"{text!r} is not a duration; write 90s, 15m, 24h or 7d")
    return seconds


def _check_scope(scope: str) -> None:
    unknown = sorted(scopes_of(scope) - SCOPES)
    if unknown:
        raise SettingsError("--scope", f"no such scope: {', '.join(unknown)}; known are {', '.join(sorted(SCOPES))}")


def _secret(settings: Settings) -> bytes:
    for name in ("public_key_file", "jwks_url"):
        if getattr(settings.auth, name):
            raise SettingsError(
                f"auth.{name}",
                "tokens are checked with a public key; only the holder of its private key can make one (use --token)",
            )
    return shared_secret(settings.auth, Path(settings.data.folder))
