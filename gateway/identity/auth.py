"""Which key tokens are checked with, and where it comes from. Never open: with no key configured, one is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.clock import Clock
from gateway.errors import SettingsError, TokenError
from gateway.identity.identity import Identity
from gateway.identity.key_files import named_key, shared_secret
from gateway.identity.key_freshness import Freshness
from gateway.identity.token import Verify, check_claims, verify_hs256
from gateway.settings.model import Auth

if TYPE_CHECKING:
    from gateway.identity.key_ring import KeyRing

_SOURCES = ("secret", "secret_file", "public_key_file", "jwks_url")


class Authenticator:
    """Turns a token into an identity, or raises TokenError with a message that is safe to show to the peer."""

    def __init__(self, settings: Auth, folder: Path, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        # The keys of an issuer that publishes them; None: the key is in a file.
        self.keys = _key_ring(settings, clock)
        self._verify = _verifier(settings, folder) if self.keys is None else self.keys.verify

    def verify(self, token: str) -> Identity:
        """Check signature and claims. Raises TokenError."""
        settings = self._settings
        if not token.isascii():
            raise TokenError("not a JWT")
        return check_claims(
            self._verify(token), self._clock.time_ms() / 1000, settings.leeway_s, settings.issuer, settings.audience
        )


def _key_ring(settings: Auth, clock: Clock) -> KeyRing | None:
    given = [name for name in _SOURCES if getattr(settings, name)]
    if len(given) > 1:
        raise SettingsError(f"auth.{given[1]}", f"set either this or auth.{given[0]}, not both")
    if not settings.jwks_url:
        return None
    # Only now is PyJWT with OpenSSL's binding loaded.
    from gateway.identity.key_ring import KeyRing

    return KeyRing(Freshness(settings.jwks_max_stale_h * 3600, clock.monotonic_s()), clock)


def _verifier(settings: Auth, folder: Path) -> Verify:
    if settings.public_key_file:
        from gateway.identity.public_key import public_key_verifier

        return public_key_verifier(named_key("auth.public_key_file", settings.public_key_file))
    secret = shared_secret(settings, folder)
    return lambda token: verify_hs256(token, secret)
