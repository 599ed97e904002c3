"""Keys in files: the one that is made in the data folder, and those that settings name."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from base64 import b64decode
from pathlib import Path
from string import whitespace

from gateway.errors import DataFolderError, SettingsError
from gateway.identity.token import MIN_SECRET_BYTES
from gateway.settings.model import Auth

KEY_NAME = "key"
MAX_KEY_BYTES = 65_536
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
# Keys of other kinds as their tools write them: SSH, SSH2, JWK and JWKS.
_NO_SECRET = re.compile(rb"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ AAAA|---- BEGIN |[\[{].*\"(kty|keys)\"", re.DOTALL)


def local_key(folder: Path) -> bytes:
    """The secret in the data folder, made at first use with mode 0600. Raises DataFolderError or SettingsError."""
    path = folder / KEY_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path, secrets.token_urlsafe(48).encode() + b"\n")
        content = _read(str(path), path)
    except OSError as error:
        raise DataFolderError(f"cannot read or make the key {path}: {error.strerror}") from error
    if not content.strip(b"\0" + whitespace.encode()):
        raise SettingsError(str(path), "the key is empty; delete the file, and a new one is made")
    return _secret(content, str(path))


def shared_secret(settings: Auth, folder: Path) -> bytes:
    """The secret that tokens are signed and checked with. Raises SettingsError or DataFolderError."""
    if settings.secret:
        return _secret(settings.secret.encode(), "auth.secret")
    if not settings.secret_file:
        return local_key(folder)
    key = "auth.secret_file"
    return _secret(named_key(key, settings.secret_file), key)


def named_key(setting: str, path: str) -> bytes:
    """What the file of a setting holds. Raises SettingsError."""
    try:
        return _read(setting, Path(path))
    except OSError as error:
        raise SettingsError(setting, f"cannot read {path}: {error.strerror}") from error


def one_public_key(setting: str, pem: bytes) -> bytes:
    """The file again, when it is one PEM public key. Raises SettingsError saying what else it is."""
    kinds = [kind.decode() for kind in _PEM.findall(pem)]
    if any("PRIVATE" in kind for kind in kinds):
        raise SettingsError(setting, "this holds a private key; the gateway needs the PEM public key only")
    if len(kinds) > 1:
        raise SettingsError(setting, f"the file holds {len(kinds)} keys; it must hold one PEM public key")
    return pem


def readable_by_others(path: Path) -> bool:
    """Whether a key can be read by the group or by everybody."""
    with contextlib.suppress(OSError):
        return bool(path.stat().st_mode & 0o077)
    return False


def _read(where: str, path: Path) -> bytes:
    # Opening a pipe waits for a writer, but not with O_NONBLOCK.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SettingsError(where, f"{path} is not a regular file; a key must be in one")
        # A log that was named by mistake must not be read whole.
        content = file.read(MAX_KEY_BYTES + 1)
    if len(content) > MAX_KEY_BYTES:
        raise SettingsError(where, f"the file is larger than {MAX_KEY_BYTES} bytes; it cannot be a key")
    return content


def _make(path: Path, content: bytes) -> None:
    """Make the file with its content, or not at all; the first process to make it wins. Raises OSError."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link takes no key away from tokens that were made with it meanwhile.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(beside)
    finally:
        beside.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _secret(content: bytes, where: str) -> bytes:
    secret = content.strip()
    if _PEM.search(secret):
        raise SettingsError(where, "this is a PEM key; name it in auth.public_key_file")
    # The last byte of a DER key may look like white space.
    if _NO_SECRET.match(secret) or any(map(_is_der, (content, secret, _from_base64(secret)))):
        raise SettingsError(
            where, "this is a key in SSH, JWK or DER form, not a shared secret; see auth.public_key_file"
        )
    if secret and not secret.strip(b"\0"):
        # What a crash of the machine may leave of a file, and anybody can guess.
        raise SettingsError(where, f"{len(secret)} bytes that are all zero are no secret; make another one")
    if len(secret) < MIN_SECRET_BYTES:
        raise SettingsError(
            where, f"the secret has {len(secret)} bytes; at least {MIN_SECRET_BYTES} are needed (RFC 7518)"
        )
    return secret


def _is_der(secret: bytes) -> bool:
    """Whether this is exactly one ASN.1 sequence that begins with another one, or with a number, as keys do."""
    if len(secret) < 4 or secret[0] != 0x30:
        return False
    # Short lengths are one byte; for long ones it says how many bytes follow.
    more = secret[1] & 0x7F if secret[1] & 0x80 else 0
    length = int.from_bytes(secret[2 : 2 + more]) if more else secret[1]
    body = secret[2 + more :]
    return len(body) == length and body[:1] in (b"\x30", b"\x02")


def _from_base64(secret: bytes) -> bytes:
    try:
        return b64decode(b"".join(secret.split()), validate=True)
    except ValueError:
        return b""
