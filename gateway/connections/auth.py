"""Which key tokens are checked with, and where it comes from. Never open: with no key configured, one is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.connections.identity import Identity
from gateway.connections.key_files import named_key, shared_secret
from gateway.connections.token import Claims, check_claims, verify_hs256
from gateway.errors import SettingsError, TokenError
from gateway.ports import Clock
from gateway.settings.model import Auth

Verify = Callable[[str], Claims]


class Authenticator:
    """Turns a token into an identity, or raises TokenError with a message that is safe to show to the peer."""

    def __init__(self, settings: Auth, folder: Path, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._verify = _verifier(settings, folder)

    def verify(self, token: str) -> Identity:
        """Check signature and claims. Raises TokenError."""
        settings = self._settings
        if not token.isascii():
            raise TokenError("not a JWT")
        return check_claims(
            self._verify(token), self._clock.time_ms() / 1000, settings.leeway_s, settings.issuer, settings.audience
        )


def _verifier(settings: Auth, folder: Path) -> Verify:
    if settings.secret_file and settings.public_key_file:
        raise SettingsError("auth.public_key_file", "set either this or auth.secret_file, not both")
    if settings.public_key_file:
        # Only now is PyJWT with OpenSSL's binding loaded.
        from gateway.connections.public_key import public_key_verifier

        return public_key_verifier(named_key("auth.public_key_file", settings.public_key_file))
    secret = shared_secret(settings, folder)
    return lambda token: verify_hs256(token, secret)
