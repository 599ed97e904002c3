"""What a part brings along that offers channels of the kind latest."""

from __future__ import annotations

from typing import Any, Protocol


class LatestSource(Protocol):
    """The states of one family. A state may know only a part; merged with the others it is whole.

    `subject` is what stands behind the colon of the channel's name, "" for a family without subjects.
    """

    async def read(self, account: str, subject: str) -> Any | None:
        """The state as of now; None: there is nothing of that name in this account. Raises StoreError."""

    def merge(self, known: Any | None, other: Any) -> Any:
        """The newest of both, part by part, in whatever order they come; `known` itself when `other` adds nothing."""

    def show(self, state: Any) -> Any:
        """The data of an event, as msgspec encodes it."""
