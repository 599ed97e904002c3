"""Where connections of devices are remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.history.record import Happening, PastConnection


class HistoryStore(Protocol):
    """Keeps the newest `record.MAX_KEPT` connections of each device. Every call may raise StoreError."""

    async def open(self) -> None:
        """Before anything else."""
        ...

    async def close(self) -> None:
        """After everything else. Harmless when called again."""
        ...

    async def write(self, happenings: Sequence[Happening]) -> None:
        """Remember what happened, in order: all of it, or nothing. Once it returns, it survives a crash.

        An end without its beginning is dropped. Written twice, it is remembered once.
        """
        ...

    async def read(self, account: str, device: str) -> list[PastConnection]:
        """What is remembered of a device, the newest first."""
        ...
