"""The KeySetStore port: the last good answer of an issuer, beside the stores, for a start without it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.adapters.durable_files import write_whole
from gateway.decoding import decoder
from gateway.errors import StoreError
from gateway.identity.jwk import MAX_SET_BYTES
from gateway.identity.ports import StoredKeySet

NAME = "jwks.json"
# The body is JSON text within JSON.
_MAX_FILE_BYTES = 8 * MAX_SET_BYTES


class _File(msgspec.Struct):
    """`url`: where it came from; that of another issuer must never count."""

    url: str
    fetched_ms: int
    body: str


_read = decoder(_File)


class KeySetFile:
    """`jwks.json` in the data folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self._path = folder / NAME
        self._url = url

    def load(self) -> StoredKeySet | None:
        """See the port."""
        try:
            with self._path.open("rb") as file:
                found = _read(file.read(_MAX_FILE_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(f"{self._path} cannot be read: {error}") from error
        return StoredKeySet(found.body.encode(), found.fetched_ms) if found.url == self._url else None

    def save(self, body: bytes, fetched_ms: int) -> None:
        """See the port."""
        try:
            write_whole(self._path, msgspec.json.encode(_File(self._url, fetched_ms, body.decode())))
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{self._path} cannot be written: {error}") from error
