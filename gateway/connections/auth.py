"""Which key tokens are checked with, and where it comes from. Never open: with no key configured, one is made."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from gateway.connections.identity import Identity
from gateway.connections.token import MIN_SECRET_BYTES, Claims, check_claims, verify_hs256
from gateway.errors import DataFolderError, SettingsError, TokenError
from gateway.ports import Clock
from gateway.settings.model import Auth

Verify = Callable[[str], Claims]
KEY_NAME = "key"


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


def local_key(folder: Path) -> bytes:
    """The secret in the data folder, made at first use with mode 0600. Raises DataFolderError."""
    path = folder / KEY_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _secret(path.read_bytes().strip(), str(path))
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_urlsafe(48).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return path.read_bytes().strip()
    except OSError as error:
        raise DataFolderError(f"cannot read or make the key {path}: {error.strerror}") from error


def _verifier(settings: Auth, folder: Path) -> Verify:
    if settings.secret_file and settings.public_key_file:
        raise SettingsError("auth.public_key_file", "set either this or auth.secret_file, not both")
    if settings.public_key_file:
        # Only now is PyJWT with OpenSSL's binding loaded.
        from gateway.connections.public_key import public_key_verifier

        return public_key_verifier(_read("auth.public_key_file", settings.public_key_file))
    if settings.secret_file:
        secret = _secret(_read("auth.secret_file", settings.secret_file).strip(), "auth.secret_file")
    else:
        secret = local_key(folder)
    return lambda token: verify_hs256(token, secret)


def _read(key: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(key, f"cannot read {path}: {error.strerror}") from error


def _secret(secret: bytes, where: str) -> bytes:
    if len(secret) < MIN_SECRET_BYTES:
        raise SettingsError(
            where, f"the secret has {len(secret)} bytes; at least {MIN_SECRET_BYTES} are needed (RFC 7518)"
        )
    if secret.startswith(b"-----BEGIN"):
        raise SettingsError(where, "this is a PEM key; name it in auth.public_key_file")
    return secret
