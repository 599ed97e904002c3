"""What can become of a location event, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, StrEnum
from typing import Protocol

from msgspec import Struct

from gateway.locations.event import LocationEvent


class Durability(StrEnum):
    """Where an acknowledged event is safe; the value is what the `ack` on the wire says."""

    INDEXED = "indexed"
    FIREHOSE = "firehose"
    SPOOLED = "spooled"
    DEAD_LETTER = "dead_letter"


class Pressure(Enum):
    """The answer to a submission: PAUSE means stop reading until `Sender.resume_reading` is called."""

    GO = "go"
    PAUSE = "pause"


class Sender(Protocol):
    """Who sent events and waits for what became of them: one object a connection or HTTP request, kept by identity.

    The methods are called on the event loop's thread and must neither block nor raise; one that raises is logged and
    treated as gone.
    """

    def acknowledge(self, events: Sequence[LocationEvent], durability: Durability) -> None:
        """These are durable. Called at most once a flush and durability, with everything of this sender merged."""

    def refuse(self, ids: Sequence[str], code: str, message: str, retry_after_ms: int | None) -> None:
        """These are not stored. `retry_after_ms` None means that sending them again is useless."""

    def resume_reading(self) -> None:
        """Pressure fell. Called once after `submit` returned PAUSE."""


class Rejection(Struct, frozen=True, gc=False):
    """Why a store did not take one item. `poison`: it never will, so the item belongs in the dead letters.

    `code`: its sender is refused with this one of `settlement.MESSAGES`, and no other store takes the item. Empty: the
    item may go elsewhere. `overflow`: the index is only busy or away, so another way to it may take the item.
    """

    reason: str
    poison: bool = False
    code: str = ""
    overflow: bool = False
