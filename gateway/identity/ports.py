"""What the part needs from outside: where the keys of an issuer come from, and where the last ones are kept."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class StoredKeySet(NamedTuple):
    """A key set as it was answered, and when (ms since the Unix epoch)."""

    body: bytes
    fetched_ms: int


class KeySetSource(Protocol):
    """Where an issuer publishes its keys."""

    async def fetch(self) -> bytes:
        """Its JSON Web Key Set. Bounded in time and size; raises KeySetError."""


class KeySetStore(Protocol):
    """Where the last key set is kept for the next start."""

    def load(self) -> StoredKeySet | None:
        """The last one of the same address; None: there is none. Blocks. Raises StoreError."""

    def save(self, body: bytes, fetched_ms: int) -> None:
        """Keep this one instead; blocks. Raises StoreError."""
